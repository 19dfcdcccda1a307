"""Published protocols as data: what the papers fit, score and resize, and where they say so.

`vice.evaluation.protocols` makes records of them.
"""

from __future__ import annotations

from typing import Any

CITYSCAPES = ("cityscapes27", "cityscapes19")

_PICIE = {
    "resize": "short",
    "size": (320,),
    "resize_library": "torchvision",
    "crop": 320,
    "score_at": "input",
    "matchings": ("hungarian",),
}
_MASKCONTRAST = {
    "resize": "exact",
    "size": (512, 512),
    "interpolation": "bicubic",
    "clusters": "objects",
    "matchings": ("hungarian_iou", "argmax_iou"),
}
_STEGO = {
    "fit_crops": "five",
    "resize": "short",
    "size": (320,),
    "fit_size": (224,),
    "interpolation": "nearest",
    "resize_library": "torchvision",
    "crop": 320,
    "fit_crop": 224,
    "score_at": "input",
    "flip_average": True,
    "matchings": ("hungarian",),
    "linear_optimizer": "adam",
    "linear_lr": 0.005,
    "linear_iterations": 5000,
    "linear_flip": False,
}
#: Dense retrieval: whole images squashed to a square, scored there.
_HUMMINGBIRD = {
    "resize": "exact",
    "resize_library": "torchvision",
    "score_at": "input",
    "std": "original",
    "miou_over": "all",
    "retrieval_grid": "patch",
    "retrieval_ignored": "class0",
    "retrieval_matchings": ("none", "hungarian_iou"),
}

#: Protocol to fields; a key of `FOR` overrides them for single data sets.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "native": {},
    "vice2022_highres": {"resize": "within", "size": (2048, 512)},
    "vice2022_lowres": {
        "resize": "short",
        "size": (320,),
        "crop": 320,
        "score_at": "input",
        "linear_photometric": True,
    },
    "picie2021": _PICIE,
    "stego2022": _STEGO,
    "stego2022_crf": {**_STEGO, "crf": "dense"},
    "picie2021_minibatch": {
        **_PICIE,
        "clusters": "minibatch",
        "kmeans_pixels": 0,
        "minibatch_images": 256,
        "minibatch_init": 20,
    },
    "maskcontrast2021_kmeans": {
        **_MASKCONTRAST,
        "fit_split": "val",
        "score_split": "val",
        "same_split": "published",
    },
    "maskcontrast2021_held_out": _MASKCONTRAST,
    "maskcontrast2021_linear": {
        "resize": "exact",
        "size": (512, 512),
        "interpolation": "bicubic",
        "upsample": "input",
        "features": "decoder",
        "linear_lr": 0.1,
        "linear_epochs": 60,
        "linear_schedule": "step",
        "linear_step_epoch": 26,
        "linear_weight_decay": 1e-4,
        "linear_rotation": 5.0,
        "linear_scale": (0.75, 1.25),
    },
    "iic2019": {
        "fit_split": "train+val",
        "score_split": "train+val",
        "same_split": "published",
        "resize": "factor",
        "resize_factor": 0.33,
        "pad": 128,
        "crop": 128,
        "score_at": "input",
        "upsample": "probabilities",
        "clusters": "own",
        "matchings": ("hungarian",),
    },
    "hummingbird2023": {**_HUMMINGBIRD, "size": (512, 512), "retrieval_patch": 16},
    "hummingbird2023_patch14": {**_HUMMINGBIRD, "size": (504, 504), "retrieval_patch": 14},
}

FOR: dict[tuple[str, str], dict[str, Any]] = {
    ("iic2019", "coco27"): {"label_part": "stuff15"},
    ("maskcontrast2021_held_out", "voc21"): {"fit_split": "trainaug"},
    ("maskcontrast2021_linear", "voc21"): {"fit_split": "trainaug"},
    **{("vice2022_highres", name): {"resize": "none", "size": ()} for name in CITYSCAPES},
    ("vice2022_highres", "camvid"): {"resize": "none", "size": ()},
    **{
        ("vice2022_lowres", name): {
            "resize": "exact",
            "size": (320, 640),
            "crop": 0,
            "score_at": "original",
        }
        for name in CITYSCAPES
    },
    **{
        (protocol, name): {
            "fit_split": "test+train_extra",
            "score_split": "val+train",
            "fit_labels": False,
        }
        for name in CITYSCAPES
        for protocol in ("picie2021", "picie2021_minibatch")
    },
}

NOTES = {
    "native": "Every image whole, at its own size. For data sets without a published protocol.",
    "vice2022_highres": "ViCE (BMVC 2022) section 4.1. COCO: as large as fits 2048 x 512, scored "
    "at the label map's size; driving scenes at their own size. The paper says 27 classes for "
    "Cityscapes, its code scores the 19 train ids: both are offered, by name.",
    "vice2022_lowres": "ViCE (BMVC 2022), the comparison with PiCIE: COCO as the central 320 x 320 "
    "square, Cityscapes at 320 x 640, scored at the label map's size.",
    "picie2021": "PiCIE (CVPR 2021). Bilinear to 320, central square, Hungarian. Cityscapes: "
    "fitted on test + train_extra (no labels), scored on val + train. The paper's clusters are "
    "those of its own mini-batch k-means; here every embedder gets the same FAISS k-means. The "
    "paper gives no schedule for its linear probe; ViCE's is used.",
    "picie2021_minibatch": "The same with PiCIE's own clusters, as its repository fits them for "
    "the final score: mini-batch k-means over the unit vectors of all fitted pixels at "
    "the model's stride (20 groups of 256 images to start from, then each group moves the "
    "centroids), and the inner product with the raw centroids.",
    "stego2022": "STEGO (ICLR 2022). Nearest-neighbour to 320, central square, mean over the "
    "mirror image, Hungarian; fitted on five crops of half the sides at 224. The paper's "
    "clusters are learnt by gradient; here every embedder gets the same FAISS k-means. No CRF: "
    "published figures with CRF do not compare.",
    "stego2022_crf": "The same with the dense conditional random field of STEGO's published "
    "figures (needs pydensecrf2): those of its linear probe compare.",
    "maskcontrast2021_kmeans": "MaskContrast (ICCV 2021), k-means on VOC: images resized to 512 x "
    "512, one object an image (the mean embedding of the foreground that the model itself finds, "
    "weighted by its logits), 32 whitened principal components, mini-batch k-means with five "
    "seeds, fitted on the scored images. The background is one of the K clusters; 21 are matched "
    "by Hungarian IoU, other numbers by argmax IoU.",
    "maskcontrast2021_held_out": "Ours: the same, fitted on train images; the argmax IoU is taken "
    "there, too. The foreground may come from files or labels (foreground=...).",
    "maskcontrast2021_linear": "MaskContrast (ICCV 2021), linear probe on VOC: the features before "
    "the decoder's last projection, images resized to 512 x 512, turned, scaled and mirrored "
    "beforehand; 60 epochs of SGD, a tenth of the rate from epoch 26 on (the repository; the "
    "supplement says 40: linear_step_epoch=40); compared at 512 x 512. Scored is the last "
    "epoch, and beside it, named as such, the one that is best on the scored labels, which is what "
    "the paper prints.",
    "iic2019": "IIC (ICCV 2019) as its repository scores it: the classes of the checkpoint's own "
    "head, without k-means; images shrunk to 0.33 of their sides, black around what is smaller "
    "than 128 pixels, the central 128 x 128; the softmax is upsampled. Classes are matched by "
    "Hungarian on the labels of train and val together, on which the training saw the images; of "
    "COCO-Stuff, pixels of the 15 stuff classes alone count (label_part=stuff15). The paper prints "
    "pixel accuracy alone, of the epoch that is best on these labels.",
    "hummingbird2023": "Dense nearest-neighbour retrieval (Balazevic et al., NeurIPS 2023), as "
    "open-hummingbird-eval 2.0 does it: images squashed to 512 x 512, one vector a patch of 16 "
    "pixels, 102,400 train patches in the memory (1,024,000 and 10,240,000 by "
    "retrieval_memory=...), 30 neighbours, temperature 0.02. The harness counts ignored pixels of "
    "the memory as class 0, normalises the third channel by 0.255, and matches classes by "
    "Hungarian IoU although predictions are classes; the score without a matching stands first.",
    "hummingbird2023_patch14": "The same for transformers with patches of 14 pixels: 504 x 504.",
}

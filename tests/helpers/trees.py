"""Small data sets in the layouts of the official releases, drawn from scratch."""

from __future__ import annotations

import dataclasses
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

#: Stored values that the drawn label maps hold, void among them.
COCO_VALUES = (0, 7, 91, 105, 123, 156, 181, 255)
CITYSCAPES_VALUES = (0, 4, 7, 8, 11, 21, 23, 26, 33)
CAMVID_VALUES = tuple(range(12))
VOC_IDS = {
    "train": ("2007_000032", "2007_000039"), "val": ("2007_000033",),
    "sbd": ("2008_000002", "2008_000003", "2007_000033", "2007_000032"),
}  # fmt: skip
ADE_IMAGES = {"training": 3, "validation": 2}
COCO_IDS = {"train": ("000000000009", "000000000025", "000000000030"), "val": ("000000000139",)}


def draw(rng, values, size=(40, 52)):
    """An image of coloured blocks and the stored label map that belongs to it."""
    blocks = rng.choice(np.array(values, np.uint8), (4, 4))
    label = np.kron(blocks, np.ones((size[0] // 4, size[1] // 4), np.uint8))
    colors = np.random.default_rng(7).integers(0, 256, (256, 3))
    image = colors[label] + rng.integers(-9, 10, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def coco(root, rng=None, extra=1):
    """COCO 2017 with stuffthingmaps as unpacked; one train image is on no list."""
    rng = rng or np.random.default_rng(0)
    for split, ids in COCO_IDS.items():
        for name in [*ids, *(f"00000099999{i}" for i in range(extra))]:
            image, label = draw(rng, COCO_VALUES)
            save(image, root / f"{split}2017" / f"{name}.jpg")
            save(label, root / "stuffthingmaps_trainval2017" / f"{split}2017" / f"{name}.png")
    return root


def cityscapes(root, rng=None, splits=("train", "val")):
    """Cityscapes with the files of gtFine that nobody needs beside those of interest."""
    rng = rng or np.random.default_rng(1)
    for split in splits:
        for city in ("aachen", "ulm"):
            frame = f"{city}_000000_000019"
            image, label = draw(rng, CITYSCAPES_VALUES, (32, 64))
            save(image, root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png")
            if split == "train_extra":
                continue
            fine = root / "gtFine" / split / city
            save(label, fine / f"{frame}_gtFine_labelIds.png")
            save(label, fine / f"{frame}_gtFine_instanceIds.png")
            (fine / f"{frame}_gtFine_polygons.json").write_text("{}")
    return root


def camvid(root, rng=None):
    """CamVid as SegNet published it."""
    rng = rng or np.random.default_rng(2)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            image, label = draw(rng, CAMVID_VALUES, (36, 48))
            save(image, root / "CamVid" / split / f"0001TP_{i:06d}.png")
            save(label, root / "CamVid" / f"{split}annot" / f"0001TP_{i:06d}.png")
    return root


def mosaic(rng, values, size=(36, 44)):
    """An image and a label map that holds every one of the values."""
    label = np.resize(rng.permutation(np.array(values, np.uint8)), size)
    colors = np.random.default_rng(7).integers(0, 256, (256, 3))
    return colors[label].astype(np.uint8), label


def palette_png(label, path, colors):
    """Saves indices with a palette, as VOC's masks are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label)
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    image.save(path)


def voc_colors():
    """The palette of VOC's masks: bits of the index, spread over the channels from the top."""
    colors = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colors[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colors


def voc(root, rng=None):
    """VOC 2012 as its tar unpacks, and SBD as its own does; SBD has images of train and val."""
    from scipy.io import savemat

    rng = rng or np.random.default_rng(3)
    release, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset" / "cls"
    for name in sorted({name for ids in VOC_IDS.values() for name in ids}):
        image, label = mosaic(rng, [*range(21), 255])
        save(image, release / "JPEGImages" / f"{name}.jpg")
        if name in VOC_IDS["train"] + VOC_IDS["val"]:
            palette_png(label, release / "SegmentationClass" / f"{name}.png", voc_colors())
        if name in VOC_IDS["sbd"]:
            sbd.mkdir(parents=True, exist_ok=True)
            plain = np.where(label == 255, 0, label).astype(np.uint8)
            savemat(sbd / f"{name}.mat", {"GTcls": {"Segmentation": plain, "Boundaries": 0}})
    lists = release / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    both = sorted(VOC_IDS["train"] + VOC_IDS["val"])
    for name, ids in (*[(k, VOC_IDS[k]) for k in ("train", "val")], ("trainval", both)):
        (lists / f"{name}.txt").write_text("".join(f"{id_}\n" for id_ in ids))
    return root


def ade(root, rng=None):
    """ADE20K as the archive of its challenge unpacks."""
    rng = rng or np.random.default_rng(4)
    release = root / "ADEChallengeData2016"
    for folder, number in ADE_IMAGES.items():
        for i in range(number):
            name = f"ADE_{folder[:5] if folder == 'training' else 'val'}_{i + 1:08d}"
            image, label = mosaic(rng, range(151))
            save(image, release / "images" / folder / f"{name}.jpg")
            save(label, release / "annotations" / folder / f"{name}.png")
    (release / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n")
    return root


def tarred(folder, inside, path):
    """Packs a folder into a tar under another name; ``.tgz`` is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                archive.add(file, f"{inside}/{file.relative_to(folder).as_posix()}")


def zipped(folder, inside, path):
    """Packs a folder into an archive under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "a") as archive:
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                archive.write(file, f"{inside}/{file.relative_to(folder).as_posix()}")


def write_lists(folder):
    """The lists of `coco` under the name that IIC and PiCIE gave theirs."""
    for split, ids in COCO_IDS.items():
        path = folder / "curated" / f"{split}2017" / "Coco164kFull_Stuff_Coarse_7.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(reversed(ids)))


def shrink(monkeypatch):
    """Makes the small trees the official releases: their counts and the checksums of the lists."""
    from vice.datasets import ade20k, curated, preparation, voc
    from vice.datasets.labelled_set import list_checksum

    for split, ids in COCO_IDS.items():
        known = dataclasses.replace(
            curated.CURATED[split], images=len(ids), checksum=list_checksum(sorted(ids))
        )
        monkeypatch.setitem(curated.CURATED, split, known)
    counts = {
        "images/train2017": 4, "annotations/train2017": 4,
        "images/val2017": 2, "annotations/val2017": 2,
        "train": 3, "trainannot": 3, "val": 2, "valannot": 2,
    }  # fmt: skip
    train, val, sbd = (set(VOC_IDS[name]) for name in ("train", "val", "sbd"))
    lists = {"train": train, "val": val, "trainval": train | val, "trainaug": train | sbd - val}
    for name, ids in lists.items():
        small = dataclasses.replace(voc.SPLITS[name], images=len(ids))
        monkeypatch.setitem(voc.SPLITS, name, small)
    for name, split in ade20k.SPLITS.items():
        small = dataclasses.replace(split, images=ADE_IMAGES[split.folder])
        monkeypatch.setitem(ade20k.SPLITS, name, small)
    counts |= {
        f"{kind}/{k}": n for kind in ("images", "annotations") for k, n in ADE_IMAGES.items()
    }
    counts |= {"JPEGImages": 5, "SegmentationClass": 3, "ImageSets/Segmentation": 3, "sbd": 4}
    for name, parts in preparation.RELEASES.items():
        small = tuple(dataclasses.replace(p, files=counts.get(p.folder, 2)) for p in parts)
        monkeypatch.setitem(preparation.RELEASES, name, small)

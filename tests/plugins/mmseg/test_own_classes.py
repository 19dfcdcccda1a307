"""The classes of a checkpoint's own head, as IIC's repository scores them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.optimize import linear_sum_assignment

from vice.errors import UserError
from vice.evaluation.protocols import get_protocol
from vice.models import Concepts
from vice.models.building import seeded_embedder
from vice.models.checkpoint import load_checkpoint, save_run
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.pipelines import build_pipeline
from vice.plugins.mmseg.transforms import ViceLoadLabels, VicePad, ViceScale

from .helpers import QUIET

CLASSES = 4


@pytest.fixture
def run(tmp_path):
    """An untrained network with a head of six classes that compares vectors as they are."""
    embedder = seeded_embedder(0, backbone="resnet18", decoder="none", dim=128, stages=2)
    vectors = torch.randn(6, 128, generator=torch.Generator().manual_seed(1))
    save_run(tmp_path / "run", embedder.eval(), Concepts(vectors, space="raw"))
    return str(tmp_path / "run")


def expected_counts(run, root, splits):
    """Classes of the head against labels, each step written out anew."""
    checkpoint = load_checkpoint(run)
    weight = checkpoint.concepts.vectors[:, :, None, None]
    counts = np.zeros((6, CLASSES), int)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for split in splits:
        for file in sorted((root / "images" / split).iterdir()):
            label = np.asarray(Image.open(root / "labels" / split / f"{file.stem}.png"))
            image = np.asarray(Image.open(file).convert("RGB"))
            small = (round(0.33 * image.shape[0]), round(0.33 * image.shape[1]))
            image = cv2.resize(image, small[::-1], interpolation=cv2.INTER_LINEAR)
            rows, columns = (
                ((np.arange(n) + 0.5) * whole / n).astype(int)
                for n, whole in zip(small, label.shape, strict=True)
            )
            label = label[rows][:, columns]
            black = np.zeros((128, 128, 3), np.uint8)
            top, left = ((128 - n) // 2 for n in small)
            black[top : top + small[0], left : left + small[1]] = image
            inputs = ((torch.from_numpy(black) / 255 - mean) / std).permute(2, 0, 1)[None]
            with torch.no_grad():
                softmax = F.conv2d(checkpoint.embedder(inputs), weight).softmax(1)
            large = F.interpolate(softmax, (128, 128), mode="bilinear", align_corners=False)
            found = large.argmax(1)[0, top : top + small[0], left : left + small[1]].numpy()
            keep = label != 255
            np.add.at(counts, (found[keep], label[keep]), 1)
    return counts


def test_iic2019_scores_the_head_on_small_padded_squares(run, make_folder, tmp_path):
    root = make_folder(train=3, val=2)
    result = evaluate_clusters(run, root, tmp_path / "out", protocol="iic2019", **QUIET)
    stored = json.loads((tmp_path / "out" / "counts.json").read_text())
    counts = np.array(stored["score"]["6"])
    expected = expected_counts(run, root, ("train", "val"))
    # A pixel in a thousand may be rounded to the other side.
    assert (
        counts.sum() == expected.sum() and abs(counts - expected).sum() <= 2 + counts.sum() // 500
    )
    assert list(result["clusters"]) == ["6"] and stored["fit"] == {}
    entry = result["clusters"]["6"]
    rows, columns = linear_sum_assignment(-counts)
    rest = set(range(6)) - set(rows)
    right = counts[rows, columns].sum() + sum(counts[k].max() for k in rest)
    assert entry["hungarian"]["accuracy"] == pytest.approx(right / counts.sum())
    assert "kmeans" not in entry and not list((tmp_path / "out").glob("centroids*"))
    assert "fitted inside the scored split" in result["protocol"]["title"]
    assert result["dataset"]["images"] == {"fit": 5, "score": 5}
    assert result["config"]["model"]["decode_head"] == [{"type": "ClusterHead", "own": run}]


def test_a_held_out_split_and_a_greedy_matching_of_its_own_classes(run, make_folder, tmp_path):
    changes = {"clusters": "own", "upsample": "scores"}
    root = make_folder(train=2, val=2)
    result = evaluate_clusters(run, root, tmp_path / "out", changes=changes, clusters=[6], **QUIET)
    assert set(result["clusters"]["6"]) >= {"greedy", "hungarian"}
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())
    greedy = np.array(counts["fit"]["6"]).argmax(1).tolist()
    assert result["clusters"]["6"]["greedy"]["mapping"] == greedy


def test_what_has_no_classes_of_its_own(run, make_folder, tmp_path):
    root, options = make_folder(train=1, val=1), {"protocol": "iic2019", **QUIET}
    save_run(tmp_path / "bare", load_checkpoint(run).embedder)
    for spec in (str(tmp_path / "bare"), "lab", "random:resnet18-fpn-8"):
        with pytest.raises(UserError, match=r"has no classes of its own.*clusters=kmeans"):
            evaluate_clusters(spec, root, tmp_path / "no", **options)
    with pytest.raises(UserError, match="6 classes of its own; ask for 6"):
        evaluate_clusters(run, root, tmp_path / "no", clusters=[27], **options)
    with pytest.raises(UserError, match="the classes of the checkpoint's own head and nothing"):
        evaluate_linear(run, root, tmp_path / "no", **options)
    with pytest.raises(UserError, match="label_part=stuff15: no such part"):
        changes = {"label_part": "stuff15"}
        evaluate_clusters(run, root, tmp_path / "no", changes=changes, **options)
    assert not (tmp_path / "no" / "results.json").exists()


def test_labels_of_a_part_alone_count():
    protocol = get_protocol("iic2019", "coco27")
    (load,) = (s for s in build_pipeline(protocol, "score") if s["type"] == "ViceLoadLabels")

    class Data:
        classes = tuple(f"{i}-{'things' if i < 12 else 'stuff'}" for i in range(27))

        def read_label(self, *_):
            return np.array([[0, 11, 12, 26, 255]], np.uint8)

    results = {"ori_shape": (1, 5), "seg_fields": [], "seg_map_path": "", "vice_dataset": Data()}
    load = ViceLoadLabels(load["part"]).transform(results)
    assert load["gt_seg_map"].tolist() == [[255, 255, 12, 26, 255]]


@pytest.mark.parametrize("size", [(1, 1), (2, 400), (128, 128), (129, 127), (400, 3)])
def test_any_size_is_scaled_and_padded(size):
    image = np.full((*size, 3), 200, np.uint8)
    results = {"img": image, "gt_seg_map": image[..., 0] // 100, "seg_fields": ["gt_seg_map"]}
    results = VicePad(128).transform(ViceScale(0.33, "bilinear").transform(results))
    height, width = (max(1, round(0.33 * n)) for n in size)
    assert results["img"].shape == (*results["gt_seg_map"].shape, 3)
    assert results["img"].shape[:2] == (max(128, height), max(128, width)) == results["img_shape"]
    labelled = results["gt_seg_map"] == 2
    assert labelled.sum() == height * width and (results["gt_seg_map"][~labelled] == 255).all()
    assert (results["img"][~labelled] == 0).all() and (results["img"][labelled] == 200).all()
    top, left = (128 - height) // 2, (128 - width) // 2
    assert labelled[max(0, top), max(0, left)] and labelled.any(1).argmax() == max(0, top)

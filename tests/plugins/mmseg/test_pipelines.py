"""What a pipeline does to an image, against the papers' own steps in torchvision and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from vice.datasets import open_dataset
from vice.evaluation.protocols import get_protocol
from vice.evaluation.published import PROTOCOLS
from vice.plugins.mmseg.pipelines import build_pipeline, optimizer, schedule


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(3)
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for i, size in enumerate(((425, 640), (480, 333))):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        label = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
        Image.fromarray(image).save(tmp_path / "images" / "val" / f"{i}.png")
        Image.fromarray(label).save(tmp_path / "labels" / "val" / f"{i}.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    return open_dataset(tmp_path)


def run(folder, protocol, role, index=0, crop=0):
    pair = folder.pairs("val")[index]
    record = {
        "img_path": str(pair.image),
        "seg_map_path": str(pair.label),
        "crop": crop,
        "vice_dataset": folder,
        "seg_fields": [],
        "reduce_zero_label": False,
    }
    with DefaultScope.overwrite_default_scope("mmseg"):
        sample = Compose(build_pipeline(protocol, role))(record)
    rgb = sample["inputs"].flip(0).permute(1, 2, 0).numpy()
    meta = sample["data_samples"]
    label = meta.gt_sem_seg.data[0].numpy() if "gt_sem_seg" in meta else None
    return rgb, label, tuple(meta.ori_shape), (Image.open(pair.image), Image.open(pair.label))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("name", "mode"),
    [("picie2021", InterpolationMode.BILINEAR), ("stego2022", InterpolationMode.NEAREST)],
)
def test_low_resolution_protocols_are_torchvisions_resize_and_crop(folder, name, mode, index):
    rgb, label, shape, (image, stored) = run(folder, get_protocol(name), "score", index)
    expected = tv.center_crop(tv.resize(image, 320, mode), 320)
    truth = tv.center_crop(tv.resize(stored, 320, InterpolationMode.NEAREST), 320)
    np.testing.assert_array_equal(rgb, np.asarray(expected))
    np.testing.assert_array_equal(label, np.asarray(truth))
    assert shape == (320, 320) and set(np.unique(label)) <= {0, 1, 2, 255}


def test_stegos_fit_images_are_five_crops_of_half_the_sides(folder):
    for crop in range(5):
        rgb, label, _, (image, stored) = run(folder, get_protocol("stego2022"), "fit", 0, crop)
        half = [image.height // 2, image.width // 2]
        parts = tv.five_crop(image, half)[crop], tv.five_crop(stored, half)[crop]
        resized = (tv.resize(part, 224, InterpolationMode.NEAREST) for part in parts)
        expected, truth = (np.asarray(tv.center_crop(part, 224)) for part in resized)
        np.testing.assert_array_equal(rgb, expected)
        np.testing.assert_array_equal(label, truth)


def test_high_resolution_resizes_the_image_and_keeps_the_stored_labels(folder):
    cv2 = pytest.importorskip("cv2")
    protocol = get_protocol("vice2022_highres", "coco27")
    rgb, label, shape, (image, stored) = run(folder, protocol, "score")
    assert rgb.shape == (512, 771, 3)  # 640x425 within 2048x512
    expected = cv2.resize(np.asarray(image), (771, 512), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(rgb, expected)
    np.testing.assert_array_equal(label, np.asarray(stored))
    assert shape == (425, 640)
    train, resized, _, _ = run(folder, protocol, "train")
    assert train.shape[:2] == resized.shape


def test_native_changes_nothing_and_exact_is_exact(folder):
    rgb, label, shape, (image, stored) = run(folder, get_protocol("native"), "score", 1)
    np.testing.assert_array_equal(rgb, np.asarray(image))
    np.testing.assert_array_equal(label, np.asarray(stored))
    assert shape == (480, 333)
    low = get_protocol("vice2022_lowres", "cityscapes19")
    rgb, label, shape, _ = run(folder, low, "score")
    assert rgb.shape == (320, 640, 3) and label.shape == shape == (425, 640)


def test_a_split_without_labels_is_read_without(folder):
    protocol = get_protocol("picie2021", "cityscapes27")
    rgb, label, _, _ = run(folder, protocol, "fit")
    assert label is None and rgb.shape == (320, 320, 3)
    assert run(folder, protocol, "score")[1] is not None


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_is_random_but_for_training(folder, name):
    for role in ("fit", "score"):
        first, second = (run(folder, get_protocol(name), role)[0] for _ in range(2))
        np.testing.assert_array_equal(first, second)
    kinds = {step["type"] for step in build_pipeline(get_protocol(name), "train")}
    assert ("RandomFlip" in kinds) == (not name.startswith("stego2022"))
    assert ("PhotoMetricDistortion" in kinds) == (name == "vice2022_lowres")


def test_a_probe_that_sees_each_image_once_sees_it_as_it_is(folder):
    protocol = get_protocol("vice2022_lowres", linear_optimizer="lbfgs")
    random, plain = (
        {step["type"] for step in build_pipeline(p, "train")}
        for p in (get_protocol("vice2022_lowres"), protocol)
    )
    assert random - plain == {"RandomFlip", "PhotoMetricDistortion"} and plain < random


def test_optimizers():
    weights = [torch.nn.Parameter(torch.zeros(1))]
    for name, kind in (("vice2022_highres", torch.optim.SGD), ("stego2022", torch.optim.Adam)):
        options = optimizer(get_protocol(name))
        assert getattr(torch.optim, options.pop("type")) is kind
        kind(weights, **options)
    assert schedule(get_protocol("native", linear_iterations=7))[0]["end"] == 7
    assert schedule(get_protocol("stego2022")) == []

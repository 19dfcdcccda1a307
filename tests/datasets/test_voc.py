"""PASCAL VOC with SBD, on small trees and archives in their real layouts."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers import trees
from vice.datasets import open_dataset
from vice.datasets.preparation import prepare
from vice.datasets.voc import palette
from vice.errors import UserError

TRAINAUG = ["2007_000032", "2007_000039", "2008_000002", "2008_000003"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    trees.shrink(monkeypatch)


@pytest.fixture
def downloads(tmp_path):
    return trees.voc(tmp_path / "downloads")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / "voc"


def stored(path):
    return np.asarray(Image.open(path))


def mask(downloads, name):
    return downloads / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png"


def check_prepared(root, downloads):
    data = open_dataset("voc21", root.parent)
    assert data.splits() == ["train", "trainaug", "trainval", "val"]
    for split, ids in trees.VOC_IDS.items():
        if split != "sbd":
            assert [pair.image.stem for pair in data.check(split)] == list(ids)
    pairs = data.check("trainaug")
    assert [pair.image.stem for pair in pairs] == TRAINAUG
    # Images of train keep their official mask, with its borders of 255; SBD's has none.
    for pair in pairs:
        labels = data.read_label(pair.label)
        assert (255 in labels) == (pair.image.stem in trees.VOC_IDS["train"])
        if 255 in labels:
            assert (labels == stored(mask(downloads, pair.image.stem))).all()
        else:
            assert set(np.unique(labels)) == set(range(21))
    return data


def test_by_links_and_out_of_sbd(downloads, root):
    lines = prepare("voc21", root, downloads)
    assert (root / "JPEGImages").is_symlink() and (root / "sbd").is_symlink()
    assert any("ids of train 2, val 1, trainval 3" in line for line in lines)
    assert (
        "voc21 trainaug: 4 images and label maps, 21 of 21 classes; 2 with pixels to be ignored, "
        "0 of another size than their image; of the 2 masks of SBD beside train, 0 have pixels of "
        "255"
    ) in lines
    check_prepared(root, downloads)
    # Nothing is written into what was downloaded.
    assert not list(downloads.rglob("*trainaug*")) and not list(downloads.rglob("*Aug*"))
    made = root / "SegmentationClassAug" / "2008_000002.png"
    assert stored(made).dtype == np.uint8 and Image.open(made).mode == "P"
    before = made.stat().st_mtime_ns
    made.with_name("2008_000003.png").unlink()  # as after a call that was stopped
    prepare("voc21", root)
    assert made.stat().st_mtime_ns == before
    check_prepared(root, downloads)


def test_out_of_the_archives(tmp_path, downloads, root):
    packed = tmp_path / "packed"
    devkit, sbd = downloads / "VOCdevkit", downloads / "benchmark_RELEASE"
    trees.tarred(devkit, "VOCdevkit", packed / "VOCtrainval_11-May-2012.tar")
    trees.tarred(sbd, "benchmark_RELEASE", packed / "benchmark.tgz")
    prepare("voc21", root, packed)
    check_prepared(root, downloads)
    image = root / "JPEGImages" / "2007_000032.jpg"
    before = image.stat().st_mtime_ns
    prepare("voc21", root, packed)
    assert image.stat().st_mtime_ns == before and not list(root.rglob("*.part"))


@pytest.mark.parametrize("packed", [False, True])
def test_masks_that_are_handed_around_are_taken_as_they_are(tmp_path, downloads, root, packed):
    aug, rng = tmp_path / "SegmentationClassAug", np.random.default_rng(0)
    for name in (*TRAINAUG, *trees.VOC_IDS["val"]):
        _, label = trees.mosaic(rng, [*range(21), 255])
        trees.save(label, aug / f"{name}.png")
    if packed:
        trees.zipped(aug, aug.name, downloads / "SegmentationClassAug.zip")
    else:
        aug.rename(aug := downloads / "SegmentationClassAug")
    for file in (downloads / "benchmark_RELEASE").rglob("*.mat"):
        file.unlink()
    lines = prepare("voc21", root, downloads)
    assert "of the 2 masks of SBD beside train, 2 have pixels of 255" in lines[-1]
    data = open_dataset("voc21", root.parent)
    for pair in data.check("trainaug"):
        assert (data.read_label(pair.label) == stored(aug / pair.label.name)).all()
        assert pair.label.is_symlink() != packed


def test_without_sbd_trainaug_is_left_out_and_that_is_said(downloads, root):
    for file in (downloads / "benchmark_RELEASE").rglob("*.mat"):
        file.unlink()
    assert "voc21 trainaug is left out" in prepare("voc21", root, downloads)[-1]
    data = open_dataset("voc21", root.parent)
    assert data.splits() == ["train", "trainval", "val"]
    with pytest.raises(
        UserError, match=r"trainaug\.txt: no such list; prepare the set .* out of SBD"
    ):
        data.pairs("trainaug")


def test_training_needs_the_images_alone(downloads, root):
    assert len(prepare("voc21", root, downloads, purpose="training")) == 1


def edit_list(downloads, name, change):
    path = downloads / "VOCdevkit/VOC2012/ImageSets/Segmentation" / f"{name}.txt"
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("val", lambda text: text + "2008_000002\n", "2 ids, but val of PASCAL VOC 2012 has 1"),
        ("val", lambda text: "\n", "0 ids, but val of PASCAL VOC 2012 has 1"),
        ("val", lambda text: "", r"are cut off: .*val\.txt"),
        ("train", lambda text: text.split()[0] + "\n" + text, "holds 2007_000032 twice"),
        ("trainval", lambda text: text.replace("000033", "000034"), "not the ids of train.txt and"),
        ("train", lambda text: text.replace("000039", "000033"), "not the ids of train.txt and"),
    ],
)
def test_other_lists_are_refused(downloads, root, name, change, message):
    official = trees.VOC_IDS.get(name, trees.VOC_IDS["train"] + trees.VOC_IDS["val"])
    edit_list(downloads, name, change)
    with pytest.raises(UserError, match=message):
        prepare("voc21", root, downloads)
    edit_list(downloads, name, lambda text: "\n".join(official))
    prepare("voc21", root, downloads)


def test_a_list_of_trainaug_must_be_train_and_sbd_without_val(downloads, root):
    lists = downloads / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    pairs = [f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n" for i in TRAINAUG]
    (lists / "trainaug.txt").write_text("".join(pairs))
    prepare("voc21", root, downloads)
    assert [pair.image.stem for pair in open_dataset("voc21", root.parent).pairs("trainaug")] == (
        TRAINAUG
    )
    (lists / "trainaug.txt").write_text("\n".join([*TRAINAUG[:-1], "2007_000033"]))
    with pytest.raises(UserError, match=r"trainaug\.txt: not the 4 ids of train and SBD"):
        prepare("voc21", root, downloads)
    with pytest.raises(UserError, match="1 of its images are in val, such as 2007_000033"):
        open_dataset("voc21", root.parent).pairs("trainaug")


def test_an_incomplete_sbd_is_refused(downloads, root):
    prepare("voc21", root, downloads)
    (root / "ImageSets/Segmentation/trainaug.txt").unlink()
    for file in root.glob("SegmentationClassAug/2008*"):
        file.unlink()
    (downloads / "benchmark_RELEASE/dataset/cls/2008_000002.mat").unlink()
    with pytest.raises(UserError, match="sbd holds 3 files"):
        prepare("voc21", root, downloads)


def test_files_that_are_no_masks_of_sbd(downloads, root):
    mat = downloads / "benchmark_RELEASE/dataset/cls/2008_000002.mat"
    whole = mat.read_bytes()
    mat.write_bytes(whole[:150])
    with pytest.raises(UserError, match=r"2008_000002\.mat: no GTcls\.Segmentation can be read"):
        prepare("voc21", root, downloads)
    from scipy.io import savemat

    for mask, message in (
        (np.full((36, 44), 21, np.uint8), r"000002\.mat: holds the value 21"),
        (np.zeros((36, 44, 3), np.uint8), r"is uint8 \(36, 44, 3\) and no map"),
        (np.zeros((36, 44)), r"is float64 \(36, 44\) and no map"),
    ):
        savemat(mat, {"GTcls": {"Segmentation": mask}})
        with pytest.raises(UserError, match=message):
            prepare("voc21", root, downloads)
    assert not (root / "ImageSets/Segmentation/trainaug.txt").exists()


def test_sbd_without_scipy(downloads, root, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match="which scipy reads, and it is not installed: install"):
        prepare("voc21", root, downloads)


def test_the_palette_is_the_official_one():
    assert (np.array(palette()) == trees.voc_colors()).all()
    known = pytest.importorskip("mmseg.datasets").PascalVOCDataset.METAINFO["palette"]
    assert [list(color) for color in palette()[:21]] == known


def test_colors_instead_of_indices_are_refused(downloads, root):
    path = mask(downloads, "2007_000033")
    colored = Image.open(path).convert("RGB")
    colored.save(path)
    with pytest.raises(UserError, match=r"2007_000033\.png: pixel format 'RGB'"):
        prepare("voc21", root, downloads)
    colored.quantize(22).save(path)  # numbers the colors anew
    with pytest.raises(UserError, match=r"2007_000033\.png: the color .* has index"):
        prepare("voc21", root, downloads)


def test_other_palettes_of_the_right_indices_are_read(downloads, root):
    label = stored(mask(downloads, "2007_000033"))
    rng = np.random.default_rng(0)
    for colors in (np.zeros((256, 3)), np.arange(256)[:, None].repeat(3, 1), rng.bytes(768)):
        colors = np.frombuffer(colors, np.uint8) if isinstance(colors, bytes) else colors
        trees.palette_png(label, mask(downloads, "2007_000033"), colors)
        prepare("voc21", root, downloads)
    Image.fromarray(label).save(mask(downloads, "2007_000033"))
    prepare("voc21", root, downloads)
    data = open_dataset("voc21", root.parent)
    assert (data.read_label(data.pairs("val")[0].label) == label).all()


def test_a_mask_of_another_size_is_resized_and_a_turned_one_is_refused(downloads, root, caplog):
    path = mask(downloads, "2007_000033")
    label = stored(path)
    double = label.repeat(2, 0).repeat(2, 1)
    trees.palette_png(double, path, trees.voc_colors())
    lines = prepare("voc21", root, downloads)
    assert any("voc21 val" in line and "1 of another size" in line for line in lines)
    data = open_dataset("voc21", root.parent)
    with caplog.at_level(logging.WARNING):
        (pair,) = data.check("val")
    assert "voc21 val: 1 of 1 label maps have another size than their image" in caplog.text
    assert (data.read_label(pair.label, label.shape) == label).all()
    assert data.read_label(pair.label).shape == double.shape
    trees.palette_png(label.T.copy(), path, trees.voc_colors())
    with pytest.raises(UserError, match="36x44 pixels, but its image .* has 44x36"):
        data.check("val")
    with pytest.raises(UserError, match="36x44 pixels, but its image has 44x36"):
        data.read_label(pair.label, label.shape)

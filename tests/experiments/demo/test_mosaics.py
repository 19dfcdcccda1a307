from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.experiments.demo import textures
from vice.experiments.demo.mosaics import (
    CLASSES,
    MosaicStyle,
    draw_mosaic,
    make_mosaics,
    photographs,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mosaics(tmp_path_factory.mktemp("mosaics") / "set", seed=3, train=48, val=24)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def read(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    names = sorted(p.name for p in (root / "images" / split).iterdir())
    images = [np.asarray(Image.open(root / "images" / split / name)) for name in names]
    labels = [np.asarray(Image.open(root / "labels" / split / name)) for name in names]
    return np.stack(images), np.stack(labels)


def test_layout(root: Path) -> None:
    assert (root / "classes.txt").read_text().split() == list(CLASSES)
    readme = (root / "README.txt").read_text()
    for source in textures.SOURCES:
        assert source.name in readme and textures.LICENSES[source.picture] in readme
    for split, count in (("train", 48), ("val", 24)):
        images, labels = read(root, split)
        assert images.shape == (count, 160, 160, 3) and images.dtype == np.uint8
        assert labels.shape == (count, 160, 160) and labels.dtype == np.uint8
        assert set(np.unique(labels)) == set(range(len(CLASSES)))
        shares = np.bincount(labels.ravel()) / labels.size
        assert shares.min() > 0.08
        assert {len(np.unique(label)) for label in labels} <= {3, 4, 5, 6}


def test_same_seed_same_bytes_and_a_longer_set_starts_with_the_shorter(
    root: Path, tmp_path: Path
) -> None:
    again = contents(make_mosaics(tmp_path / "again", seed=3, train=12, val=4))
    whole = contents(root)
    assert again and all(whole[name] == data for name, data in again.items())
    other = contents(make_mosaics(tmp_path / "other", seed=4, train=12, val=4))
    pictures = [name for name in again if name.endswith(".png")]
    assert all(again[name] != other[name] for name in pictures)


def test_making_it_again_leaves_nothing_stale(tmp_path: Path) -> None:
    make_mosaics(tmp_path / "set", train=5, val=2, size=48)
    make_mosaics(tmp_path / "set", train=2, val=1, size=48)
    assert len(list((tmp_path / "set").rglob("*.png"))) == 6


@pytest.mark.parametrize("source", textures.SOURCES, ids=lambda source: source.name)
def test_rectangles_are_inside_the_picture_and_apart(source: textures.TextureSource) -> None:
    height, width = textures.load_picture(source.picture).shape[:2]
    owner = np.zeros((height, width), int)
    for split in textures.SPLITS:
        top, left, bottom, right = source.box(split)
        assert 0 <= top < bottom <= height and 0 <= left < right <= width
        assert not owner[max(top - 10, 0) : bottom + 10, max(left - 10, 0) : right + 10].any()
        owner[top:bottom, left:right] = 1
        assert min(textures.load_texture(source, split).shape) >= 120


def test_two_classes_never_share_a_pixel() -> None:
    for first, second in itertools.combinations(textures.SOURCES, 2):
        assert first.picture != second.picture


@pytest.mark.parametrize("split", textures.SPLITS)
def test_a_split_does_not_see_the_other_ones_pixels(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = contents(make_mosaics(tmp_path / "clean", train=6, val=6))
    original = textures.load_picture
    (other,) = set(textures.SPLITS) - {split}

    def spoiled(name: str) -> np.ndarray:
        picture = original(name).copy()
        for source in textures.SOURCES:
            if source.picture == name:
                top, left, bottom, right = source.box(other)
                picture[top:bottom, left:right] = 255 - picture[top:bottom, left:right]
        return picture

    monkeypatch.setattr(textures, "load_picture", spoiled)
    dirty = contents(make_mosaics(tmp_path / "dirty", train=6, val=6))
    for name in clean:
        if f"/{split}/" in name:
            assert clean[name] == dirty[name]
        elif name.startswith(f"images/{other}"):
            assert clean[name] != dirty[name]


def test_labels_are_exact_at_each_pixel() -> None:
    """Flat textures at 10, 20, 40 and 80 grey levels, jittered by at most a fifth: decodable."""
    flat = [np.full((40, 200), 2.0**k, np.float32) for k in range(4)]
    style = MosaicStyle(segments=(2, 4), brightness=(100, 100), contrast=(10, 10), tint=0)
    for seed in range(20):
        image, label = draw_mosaic(flat, 96, np.random.default_rng(seed), style)
        decoded = np.rint(np.log2((image.astype(float) - 100) / 10)).astype(int)
        assert (decoded == label[..., None]).all()


def test_segments_keep_texture_classes_apart() -> None:
    noise = np.random.default_rng(0).standard_normal((6, 64, 64)).astype(np.float32)
    style = MosaicStyle(segments=(6, 6))
    for seed in range(20):
        _, label = draw_mosaic(list(noise), 64, np.random.default_rng(seed), style)
        assert len(np.unique(label)) == 6


def test_lab_colour_says_little_about_the_class(root: Path) -> None:
    pytest.importorskip("sklearn")
    from skimage.color import rgb2lab
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    (train, train_labels), (val, val_labels) = read(root, "train"), read(root, "val")
    train, val = (rgb2lab(x[:, ::8, ::8]).reshape(-1, 3) for x in (train, val))
    train_labels, val_labels = (y[:, ::8, ::8].ravel() for y in (train_labels, val_labels))
    means = np.stack([train[train_labels == k].mean(0) for k in range(len(CLASSES))])
    assert (means.std(0) < 0.35 * train.std(0)).all()
    colour = QuadraticDiscriminantAnalysis().fit(train, train_labels)
    assert colour.score(val, val_labels) < 0.30


def test_texture_identifies_the_class(root: Path) -> None:
    """Contrast-free, orientation-free spectra of segments: fitted on train, right on val."""
    from sklearn.linear_model import LogisticRegression

    features = {split: _segment_features(*read(root, split)) for split in ("train", "val")}
    model = LogisticRegression(max_iter=2000).fit(*features["train"])
    assert model.score(*features["val"]) > 0.75


def _segment_features(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import binary_erosion, gaussian_filter

    vectors, classes = [], []
    for image, label in zip(images.mean(-1), labels, strict=True):
        blurred = [gaussian_filter(image, sigma) for sigma in (0.5, 1, 2, 4)]
        bands = [a - b for a, b in itertools.pairwise(blurred)]
        for k in np.unique(label):
            inside = binary_erosion(label == k, iterations=6)
            if inside.sum() < 600:
                continue
            parts = np.stack([band[inside] for band in bands])
            spread = parts.std(1, keepdims=True)
            shape = (((parts - parts.mean(1, keepdims=True)) / spread) ** 3).mean(1)
            kurtosis = (np.abs(parts / spread) ** 4).mean(1)
            ratios = np.log(spread[1:, 0] / spread[:-1, 0])
            vectors.append(np.r_[ratios, np.cbrt(shape), np.log(kurtosis)])
            classes.append(k)
    return np.stack(vectors), np.array(classes)


def test_photographs() -> None:
    pictures = photographs()
    assert set(pictures) == set(textures.PHOTOGRAPHS)
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train=-1"):
        make_mosaics(tmp_path / "a", train=-1)
    with pytest.raises(UserError, match="size=8"):
        make_mosaics(tmp_path / "a", size=8)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        make_mosaics(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"
    with pytest.raises(UserError, match="mona_lisa"):
        textures.load_picture("mona_lisa")

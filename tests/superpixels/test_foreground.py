"""Foreground of images: masks of every kind are read right; the built-in one finds what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.images import ImageError
from vice.superpixels import Foregrounds
from vice.superpixels.saliency import SIDE, saliency, salient_mask

RNG = np.random.default_rng(0)


def scene(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A red disc on noisy green, and where it is."""
    y, x = np.indices((height, width))
    disc = (y - 60) ** 2 + (x - 70) ** 2 < 30**2
    image = np.where(disc[..., None], (200, 40, 30), (40, 140, 60))
    image = image + RNG.integers(-15, 16, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), disc


def written(folder: Path, mask: np.ndarray | Image.Image) -> Path:
    folder.mkdir(exist_ok=True)
    image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    image.save(folder / "a.png")
    Image.fromarray(scene()[0]).save(folder.parent / "a.jpg")
    return folder


def palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([128, 0, 0] * 256)
    return image


DISC = scene()[1]
KINDS = {
    "0 and 1": DISC.astype(np.uint8),
    "0 and 255": 255 * DISC.astype(np.uint8),
    "one bit": Image.fromarray(DISC),
    "palette": palette(15 * DISC),
    "16 bits": (40_000 * DISC).astype(np.uint16),
    "grey as RGB": np.repeat(255 * DISC.astype(np.uint8)[..., None], 3, axis=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_kind_are_the_object(kind, tmp_path):
    folder = written(tmp_path / "masks", KINDS[kind])
    image, objects = Foregrounds(folder=folder).read(tmp_path / "a.jpg", mode="none")
    assert image.shape == (120, 160, 3) and objects.dtype == np.uint8
    np.testing.assert_array_equal(objects, DISC)


def test_nothing_but_foreground_is_not_nothing(tmp_path):
    """Ids that are numbered anew would make one value background, whichever it is."""
    folder = written(tmp_path / "masks", np.full((120, 160), 255, np.uint8))
    assert Foregrounds(folder=folder).read(tmp_path / "a.jpg", mode="none")[1].all()
    written(folder, np.zeros((120, 160), np.uint8))
    assert not Foregrounds(folder=folder).read(tmp_path / "a.jpg", mode="none")[1].any()


def test_ids_and_connected_parts_are_objects_the_largest_first(tmp_path):
    ids = np.zeros((120, 160), np.uint16)
    ids[5:15, 5:25], ids[40:100, 20:60], ids[40:90, 100:150], ids[118, 150] = 900, 7, 7, 3
    foregrounds = Foregrounds(folder=written(tmp_path / "masks", ids), objects="connected")
    objects = foregrounds.read(tmp_path / "a.jpg", mode="none")[1]
    assert (objects == 1)[ids == 7].all() and (objects == 2)[ids == 900].all()
    assert objects.max() == 2 and not objects[118, 150]
    parts = foregrounds.of(np.where(ids == 900, 0, ids) == 7)
    assert parts[50, 120] == 1 and parts[50, 30] == 2
    assert np.bincount(parts.ravel())[1:].tolist() == [2500, 2400]
    few = Foregrounds(folder=foregrounds.folder, objects="connected", most_objects=1)
    assert few.of(ids).max() == few.most == 1


def test_a_mask_is_brought_to_the_size_of_its_image(tmp_path):
    folder = written(tmp_path / "masks", KINDS["0 and 255"])
    sizes = {"mode": "lowres", "square": 60}
    image, objects = Foregrounds(folder=folder).read(tmp_path / "a.jpg", **sizes)
    assert image.shape[:2] == objects.shape == (60, 60) and set(np.unique(objects)) == {0, 1}
    assert abs(objects.mean() - DISC[:, 20:140].mean()) < 0.02


def test_what_is_no_mask_of_the_image_is_told(tmp_path):
    folder = written(tmp_path / "masks", RNG.integers(0, 256, (120, 160), dtype=np.uint8))
    with pytest.raises(ImageError, match=r"masks/a\.png: 256 values.*threshold"):
        Foregrounds(folder=folder).read(tmp_path / "a.jpg")
    written(folder, np.zeros((60, 80), np.uint8))
    with pytest.raises(ImageError, match=r"a\.png.*60 x 80.*120 x 160"):
        Foregrounds(folder=folder).read(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"b\.jpg: no mask .*masks/b\.png"):
        Foregrounds(folder=folder).files.find("b.jpg")
    with pytest.raises(UserError, match="folder=FOLDER, or take the built-in"):
        Foregrounds()
    with pytest.raises(UserError, match="gone does not exist: set .*folder=FOLDER"):
        Foregrounds(folder=tmp_path / "gone")


def test_the_built_in_saliency_finds_a_disc_whatever_its_color_and_is_cached(tmp_path):
    image, disc = scene()
    Image.fromarray(image).save(tmp_path / "a.png")
    foregrounds = Foregrounds(source="builtin", cache_dir=tmp_path / "cache")
    objects = foregrounds.read(tmp_path / "a.png", mode="none")[1]
    union = (objects > 0) | disc
    assert ((objects > 0) & disc).sum() > 0.9 * union.sum()
    (file,) = (tmp_path / "cache").rglob("*.npz")
    changed = file.stat().st_mtime_ns
    again = Foregrounds(source="builtin", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(again.read(tmp_path / "a.png", mode="none")[1], objects)
    assert file.stat().st_mtime_ns == changed
    swapped = np.ascontiguousarray(image[..., [1, 0, 2]])
    assert (salient_mask(swapped) & disc).sum() > 0.9 * disc.sum()


def test_where_nothing_stands_out_there_is_no_foreground_and_sizes_are_any():
    assert not salient_mask(np.full((40, 50, 3), 90, np.uint8)).any()
    assert saliency(np.zeros((2, 3, 3), np.uint8)).shape == (2, 3)
    large = RNG.integers(0, 256, (30, 700, 3), dtype=np.uint8)
    found = saliency(large)
    assert found.shape == (10, SIDE) and 0 <= found.min() <= found.max() <= 1
    assert salient_mask(large).shape == (30, 700)
    np.testing.assert_array_equal(found, saliency(large))

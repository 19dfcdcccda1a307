"""Real VISSL runs on region maps that are on disk."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.plugins.vissl.conftest import overrides, run_tool, write_images
from vice.errors import UserError
from vice.images import read_image
from vice.plugins.vissl.config.configure import configure
from vice.runtime.health_log import read_health

pytest.importorskip("vissl")


@pytest.fixture
def mapped(tmp_path):
    """Images with maps of their 8 x 9 blocks, in three formats; the last image has none."""
    images, maps = write_images(tmp_path / "images"), tmp_path / "maps"
    maps.mkdir()
    rows, columns = np.arange(80) * 8 // 80, np.arange(90) * 9 // 90
    blocks = rows[:, None] * 9 + columns
    for number in range(5):
        if number < 2:
            Image.fromarray(blocks.astype(np.uint8)).save(maps / f"{number}.png")
        elif number < 4:
            Image.fromarray((blocks * 500).astype(np.uint16)).save(maps / f"{number}.png")
        else:
            np.savez(maps / f"{number}.npz", masks=blocks * 10**9)
    return images, maps, blocks


def by_files(images, out, maps, *more):
    options = ["config.VICE.SUPERPIXELS.method=files", f"config.VICE.SUPERPIXELS.folder={maps}"]
    return overrides(images, out, *options, *more)


def test_training_on_maps_of_another_program(mapped, tmp_path):
    images, maps, _ = mapped
    out = tmp_path / "run"
    done = run_tool(by_files(images, out, "maps"), tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    records = read_health(out)
    assert len(records) == 6
    # The image without a map is replaced once an epoch, as one that cannot be read.
    assert sum(record["skipped_images"] for record in records) >= 2
    assert "5.png: no region map" in (out / "log.txt").read_text() + done.stdout + done.stderr
    assert (out / "vice.safetensors").is_file() and not (out / "superpixels").exists()
    assert maps.is_dir()


def test_samples_have_the_maps_of_their_images(mapped, tmp_path):
    from vissl.data import build_dataset

    images, maps, blocks = mapped
    sizes = ["config.VICE.STANDARDIZE.mode=lowres", "config.VICE.STANDARDIZE.square=40"]
    source = build_dataset(configure(by_files(images, tmp_path, maps))[1], "TRAIN").data_objs[0]
    for number in range(5):
        image, regions = source.images.image_and_regions(number)
        np.testing.assert_array_equal(image, read_image(images / f"{number}.png"))
        np.testing.assert_array_equal(regions, blocks)
        assert source[number][1]
    small = build_dataset(configure(by_files(images, tmp_path, maps, *sizes))[1], "TRAIN")
    # Every second pixel of the centred square, renumbered.
    square = blocks[:, 5:85][1::2, 1::2]
    expected = np.unique(square, return_inverse=True)[1].reshape(40, 40)
    regions = small.data_objs[0].images.image_and_regions(0)[1]
    np.testing.assert_array_equal(regions, expected)


def test_no_map_at_all_is_an_error_with_the_file(mapped, tmp_path):
    from vissl.data import build_dataset

    images, _, _ = mapped
    (tmp_path / "empty").mkdir()
    config = configure(by_files(images, tmp_path / "out", tmp_path / "empty"))[1]
    source = build_dataset(config, "TRAIN").data_objs[0]
    with pytest.raises(UserError, match=r"images in a row cannot be used, .*png: no region map"):
        source[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("config.VICE.SUPERPIXELS.method=sam", "SUPERPIXELS.method='sam': must be one of slic"),
        ("config.VICE.SUPERPIXELS.method=files", "SUPERPIXELS: .*folder=FOLDER"),
        ("config.VICE.SUPERPIXELS.min_size=0", "SUPERPIXELS.min_size=0: must be a whole number"),
        ("config.VICE.SUPERPIXELS.compactness=-1", "SUPERPIXELS.compactness=-1: must be a number"),
    ],
)
def test_what_is_wrong_is_named(images, tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        configure(overrides(images, tmp_path, override))

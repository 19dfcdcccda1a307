from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.forked import ROOT, Forked
from vice.errors import UserError
from vice.images import read_image, standardize
from vice.superpixels import Superpixels
from vice.superpixels.fill import fill_cache

SIZE = {"mode": "highres", "min_side": 60, "max_side": 100}


@pytest.fixture
def photos(tmp_path, rng):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        image = rng.integers(0, 256, (48 + i, 64, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_training_finds_what_was_filled(photos, tmp_path, monkeypatch):
    options = {"region_size": 10, "cache_dir": str(tmp_path / "cache")}
    paths = sorted(photos.iterdir())
    report = fill_cache(paths, SIZE, options, workers=2)
    assert (report.images, report.made, len(report.broken)) == (6, 5, 1)
    assert "broken.png" in report.broken[0]
    files = list((tmp_path / "cache").rglob("*.npz"))
    assert len(files) == 5 and report.size == sum(file.stat().st_size for file in files)
    superpixels = Superpixels(**options)
    expected = Superpixels(region_size=10)
    monkeypatch.setattr(superpixels, "_make", lambda _: pytest.fail("made anew"))
    for path in paths[:-1]:
        superpixels(standardize(read_image(path), **SIZE))
    monkeypatch.undo()
    image = standardize(read_image(paths[0]), **SIZE)
    np.testing.assert_array_equal(superpixels(image), expected(image))


def test_shards_share_the_work_and_repeating_makes_nothing_new(photos, tmp_path):
    options = {"cache_dir": str(tmp_path / "cache")}
    paths = [path for path in sorted(photos.iterdir()) if path.stem != "broken"]
    made = [fill_cache(paths, SIZE, options, shard=(i, 2)).made for i in range(2)]
    assert made == [3, 2]
    (next((tmp_path / "cache").rglob("*.npz"))).write_bytes(b"cut")
    again = fill_cache(paths, SIZE, options)
    assert (again.images, again.made) == (5, 0)
    for file in (tmp_path / "cache").rglob("*.npz"):
        assert file.stat().st_size > 100  # the broken one was mended


@pytest.mark.parametrize(
    ("options", "shard", "message"),
    [
        ({}, (0, 1), "no cache folder: set cache_dir=FOLDER"),
        ({"cache_dir": "x", "method": "grid"}, (0, 1), "quicker made than read"),
        ({"cache_dir": "x"}, (2, 2), "shard 2 of 2"),
    ],
)
def test_bad_input_is_named(options, shard, message):
    with pytest.raises(UserError, match=message):
        fill_cache([], SIZE, options, shard=shard)


def test_command_line(photos, tmp_path):
    pytest.importorskip("vissl")

    config = ["config=vice/folder", f"config.DATA.TRAIN.DATA_PATHS=[{photos}]"]
    command = [ROOT / "tools" / "cache_superpixels.py", *config]
    cache = f"config.VICE.SUPERPIXELS.cache_dir={tmp_path / 'cache'}"
    done = subprocess.run(
        [sys.executable, *command, "--workers", "1", cache],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "6 images, 5 new maps" in done.stdout and "broken.png" in done.stdout
    done = Forked([*command, "config.VICE.SUPERPIXELS.cache_dir=null"], cwd=tmp_path).wait()
    assert done.returncode == 2
    assert "no cache folder: set config.VICE.SUPERPIXELS.cache_dir=FOLDER" in done.stderr
    done = Forked([*command, cache, "--shard", "half"], cwd=tmp_path).wait()
    assert done.returncode == 2

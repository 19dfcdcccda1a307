"""A model whose images are read by a scale: files, arrays, windows, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.image_kinds import expected
from tests.helpers.tiffs import tiff
from vice.errors import UserError
from vice.explore.georeference import georeference, write_geotiff
from vice.explore.mask_files import write_mask
from vice.models.checkpoint import READING, load_embedder, save_run
from vice.models.load import load_extractor, stored_reading
from vice.predictor import load

BLACK, WHITE = (100.0, 150.0, 200.0), (3000.0, 3500.0, 3900.0)
SAID = {
    "samples": "uint16", "stored": 5, "bands": [4, 3, 2], "page": 1, "black": list(BLACK),
    "white": list(WHITE), "scale": "p1,p99", "images": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(folder, load_embedder("random:resnet18-fpn-8"), meta={READING: SAID})
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    samples = np.random.default_rng(3).integers(0, 4096, (96, 80, 5), dtype=np.uint16)
    path = tmp_path_factory.mktemp("scene") / "a.tif"
    path.write_bytes(tiff(samples, 2, extra=(0, 0), compression="zlib", tile=32))
    return path, samples


def test_files_and_arrays_are_read_as_in_training(run, scene):
    path, samples = scene
    predictor, plain = load(run, device="cpu"), load(run, device="cpu")
    plain.reading = None
    wanted = plain.embed(expected(samples[..., [3, 2, 1]], BLACK, WHITE))
    for given in (path, samples, samples.transpose(2, 0, 1), predictor.given(path)):
        assert torch.equal(predictor.embed(given), wanted)
    assert torch.equal(dict(predictor.embed_all([path]))[path], wanted)
    chosen = samples[..., [3, 2, 1]]
    outside = int(((chosen < BLACK) | (chosen > WHITE)).sum())
    # The path, what was given of it to another call, and the one of many.
    counted = {"images": 3, "values": 3 * chosen.size, "outside": 3 * outside}
    assert predictor.clipping.describe() == counted
    assert stored_reading(str(run)) == stored_reading(f"random:{run}") == predictor.reading
    assert load_extractor(str(run)).provenance[READING] == SAID


def test_windows_of_a_file_equal_the_whole(run, scene):
    path, _ = scene
    predictor = load(run, device="cpu")
    given = predictor.given(path, budget=1000)
    assert given.held and np.array_equal(given.pixels, predictor.given(path).pixels)


def test_what_does_not_fit_is_one_line(run, scene, tmp_path):
    _, samples = scene
    predictor = load(run, device="cpu")
    (tmp_path / "three.tif").write_bytes(tiff(samples[..., :3], 2))
    for given, said in (
        (np.zeros((9, 9, 3), np.uint8), "none of the kind"),
        (samples[..., :3], "none of the kind"),
        (samples.astype(np.float32), "none of the kind"),
        (samples * 16, "another bit depth"),
        (tmp_path / "three.tif", "3 bands of uint16, but"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            predictor.embed(given)
        assert "\n" not in str(caught.value)


def test_a_damaged_card_is_one_line(tmp_path):
    for number, damage in enumerate(({"white": [1.0]}, {"black": None}, {"bands": [0, 1, 2]})):
        folder = tmp_path / str(number)
        save_run(folder, load_embedder("random:resnet18-fpn-8"), meta={READING: {**SAID, **damage}})
        with pytest.raises(UserError, match="how its images are read is damaged"):
            load(folder, device="cpu")


def test_a_file_is_too_large_before_it_is_decoded(tmp_path, monkeypatch):
    from PIL import Image, ImageFile

    Image.new("RGB", (4000, 3000)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"decoding it takes 80\.1 MiB, more than the memory"):
        load("lab", device="cpu").embed(tmp_path / "a.png", memory="40MiB")


def test_a_mask_keeps_the_georeference(tmp_path, rng):
    tifffile = pytest.importorskip("tifffile")

    scale, tie = (10.0, 20.0, 0.0), (0.0, 0.0, 0.0, 500_000.5, 4_649_776.25, 0.0)
    keys = (1, 1, 0, 1, 3072, 0, 1, 32633)
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((7, 9, 4), np.uint16), photometric="rgb", extrasamples=[0],
        extratags=[(33550, 12, 3, scale, True), (33922, 12, 6, tie, True),
                   (34735, 3, 8, keys, True)],
    )  # fmt: skip
    tags = georeference(tmp_path / "a.tif")
    labels = rng.integers(0, 5, (7, 9))
    for count in (5, 700):
        write_mask(labels, count, tmp_path / "m.png")
        write_geotiff(tmp_path / "m.png", tmp_path / "m.tif", tags)
        with tifffile.TiffFile(tmp_path / "m.tif") as file:
            page = file.pages[0]
            assert [tuple(page.tags[t].value) for t in (33550, 33922, 34735)] == [scale, tie, keys]
            assert np.array_equal(page.asarray(), labels)
    assert georeference(tmp_path / "m.png") == {}

"""Embeddings beside the masks, videos frame by frame, and what the disk cannot take."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import cv2
import numpy as np
import pytest
from PIL import Image

import vice
from tests.explore.conftest import ran
from tests.helpers.content import photo
from vice.errors import MissingPart, UserError
from vice.explore import embedding_files
from vice.explore.mask_files import read_mask
from vice.explore.segment_folder import segment_folder
from vice.explore.video_frames import extract_frames

MODEL = "random:resnet18-fpn-8"


@pytest.fixture(scope="module")
def predictor():
    return vice.load(MODEL, device="cpu")


@pytest.fixture
def images(tmp_path, rng):
    (tmp_path / "photos" / "in").mkdir(parents=True)
    made = [tmp_path / "photos" / "a.png", tmp_path / "photos" / "in" / "b.png"]
    for path, size in zip(made, ((64, 96), (80, 70)), strict=True):
        Image.fromarray(photo(rng, size)).save(path)
    return made


@pytest.fixture
def concepts(predictor, images):
    return vice.models.Concepts(predictor.embed(images[0], "native").flatten(1).T[::97].clone())


def read_back(form, path):
    """The array and the card that a file holds, by the library of its format."""
    if form == "npz":
        with np.load(path) as file:
            return file["embedding"], json.loads(str(file["card"]))
    if form == "zarr":
        import zarr

        array = zarr.open_array(str(path), mode="r")
        return array[:], array.attrs["card"]
    from pyarrow import parquet

    table = parquet.read_table(path)
    rows, columns = (table[name].to_numpy() for name in ("row", "column"))
    vectors = np.stack(table["vector"].to_numpy(zero_copy_only=False))
    values = np.zeros((vectors.shape[1], rows.max() + 1, columns.max() + 1), np.float16)
    values[:, rows, columns] = vectors.T
    return values, json.loads(table.schema.metadata[b"card"])


@pytest.mark.parametrize("form", ["npz", "zarr", "parquet"])
def test_embeddings_are_the_models_in_half_precision(form, images, predictor, concepts, tmp_path):
    package = embedding_files.FORMS[form].package
    if package:
        pytest.importorskip(package)
    out, plain = tmp_path / "out", tmp_path / "plain"
    segment_folder(predictor, images, out, concepts, embeddings=form)
    segment_folder(predictor, images, plain, concepts)
    for image, name in zip(images, ("a", "in/b"), strict=True):
        path = out / "embeddings" / f"{name}.{form}"
        values, card = read_back(form, path)
        assert values.dtype == np.float16
        wanted = predictor.embed(image, "native").numpy()
        assert values.shape == wanted.shape and np.abs(values - wanted).max() < 5e-4
        assert card["dim"] == 8 and card["weights"] == json.loads(
            (out / "segmentation.json").read_text()
        )["weights"]  # fmt: skip
        mask = f"masks/{name}.png"
        assert (out / mask).read_bytes() == (plain / mask).read_bytes()
    assert segment_folder(predictor, images, out, concepts, embeddings=form).reused == 2
    # Cut off, or taken away: made again.
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(path.read_bytes()[:-200])
    assert segment_folder(predictor, images, out, concepts, embeddings=form).reused == 1
    assert (read_back(form, path)[0] == values).all()


@pytest.mark.parametrize("form", ["zarr", "parquet"])
def test_a_package_that_is_missing_is_named(
    form, images, predictor, concepts, tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPart, match=rf"embeddings as {form} need \w+: pip install \w+, or"):
        segment_folder(predictor, images, tmp_path / "out", concepts, embeddings=form)


def test_what_the_disk_cannot_take_is_refused_after_the_first(
    images, predictor, concepts, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 9, 1))
    with pytest.raises(UserError, match="2 images take about .* KiB .* free some space"):
        segment_folder(predictor, images, tmp_path / "out", concepts)
    # What was made stays, and is not made again.
    monkeypatch.undo()
    assert segment_folder(predictor, images, tmp_path / "out", concepts).reused == 1


def test_in_tiles_the_masks_are_the_same(tmp_path, rng):
    image = tmp_path / "large.png"
    Image.fromarray(photo(rng, (900, 1100))).save(image)
    lab = vice.load("lab", device="cpu")
    points = vice.models.Concepts.euclidean(lab.embed(image, "native").flatten(1).T[::99_991])
    folders = [tmp_path / "whole", tmp_path / "tiles"]
    segment_folder(lab, [image], folders[0], points, overlays=False)
    segment_folder(
        lab, [image], folders[1], points, overlays=False, memory="112MiB", embeddings="npz"
    )
    assert lab.tiling is not None
    values, _ = read_back("npz", folders[1] / "embeddings" / "large.npz")
    wanted = lab.embed(image, "native").numpy()
    assert values.shape == wanted.shape and np.abs(values - wanted).max() < 0.05
    one, other = (read_mask(folder / "masks" / "large.png") for folder in folders)
    assert (one == other).mean() > 0.9999


@pytest.fixture
def video(tmp_path):
    """Ten frames of 48 x 64: a bright bar that moves by four columns a frame, then stands still."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for number in range(10):
        frame = np.zeros((48, 64, 3), np.uint8)
        left = 4 * min(number, 5)
        frame[:, left : left + 16] = 255
        writer.write(frame)
    writer.release()
    return path


def test_videos_frame_by_frame(video, images, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    words = ("lab", video, images[0], "--clusters", 2, "-o", out, "--device", "cpu")
    said = ran(monkeypatch, capsys, *words)
    # Five steps of nine change two stripes of four columns.
    wanted = 100 * 5 * 8 / 64 / 9
    line = next(line for line in said.splitlines() if line.startswith("clip.avi: "))
    assert line.startswith("clip.avi: 10 frames; ")
    assert float(line.split("; ")[1].split(" %")[0]) == pytest.approx(wanted, abs=0.6)
    found = json.loads((out / "videos.json").read_text())["clip.avi"]
    assert found["frames"] == 10
    assert found["changed_most"] == pytest.approx(8 / 64, abs=0.02)
    masks = sorted((out / "masks").rglob("00000*.png"))
    assert len(masks) == 10
    bright = read_mask(masks[0])[24, 8]
    for number, path in enumerate(masks):
        left = 4 * min(number, 5)
        assert (read_mask(path)[8:40, left + 3 : left + 13] == bright).all()
    before = [path.stat().st_mtime_ns for path in sorted((out / "frames").rglob("*.jpg"))]
    assert "(11 were there)" in ran(monkeypatch, capsys, *words)
    assert before == [path.stat().st_mtime_ns for path in sorted((out / "frames").rglob("*.jpg"))]


def test_a_file_that_is_no_video_is_refused(tmp_path):
    for name, content in (("a.mp4", b""), ("b.avi", b"RIFF no video")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: no frame of it can be decoded"):
            extract_frames(tmp_path / name, tmp_path / "frames" / name)


def test_two_videos_of_a_name_are_refused(video, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other" / "clip.avi"
    other.parent.mkdir()
    shutil.copy(video, other)
    with pytest.raises(UserError, match="two videos are called clip.avi"):
        ran(monkeypatch, capsys, "lab", video, other, "--clusters", 2, "-o", tmp_path / "out")

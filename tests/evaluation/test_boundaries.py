"""Outlines against annotators drawn by hand, and against counts pixel by pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.evaluation.boundaries import (
    BoundaryCounts,
    boundaries,
    connected_segments,
    count_boundaries,
    read_annotations,
    score_segments,
    summarize,
)
from vice.evaluation.evaluate_boundaries import evaluate_boundaries


def halves(column, height=6, width=12):
    """A map whose right part begins at a column; its outline is the column before."""
    return np.repeat((np.arange(width) >= column)[None], height, 0).astype(int)


def test_counts_of_two_annotators_by_hand():
    """Outlines are single columns of 6 pixels: at 5, and at 5 and 8 of the annotators."""
    drawn = [halves(6), halves(9)]
    assert count_boundaries(halves(6), drawn, 0) == BoundaryCounts(6, 6, 12, 6)
    # Columns 3 and 8 lie 2 and 3 from column 5 or 6.
    assert count_boundaries(halves(4), drawn, 1) == BoundaryCounts(6, 0, 12, 0)
    assert count_boundaries(halves(4), drawn, 2) == BoundaryCounts(6, 6, 12, 6)
    assert count_boundaries(halves(7), drawn, 2) == BoundaryCounts(6, 6, 12, 12)
    found = count_boundaries(halves(7), drawn, 1)
    assert (found.precision, found.recall) == (1.0, 0.5)
    assert found.f_score == pytest.approx(2 / 3)


def test_counts_add_up_and_nothing_has_no_share():
    total = BoundaryCounts(4, 2, 10, 5) + BoundaryCounts(6, 3, 0, 0)
    assert total == BoundaryCounts(10, 5, 10, 5)
    assert (total.precision, total.recall, total.f_score) == (0.5, 0.5, 0.5)
    plain = np.zeros((5, 5), int)
    nothing = count_boundaries(plain, [plain])
    assert nothing == BoundaryCounts() and nothing.f_score is None is nothing.precision
    assert count_boundaries(plain, [np.eye(5, dtype=int)]).recall == 0
    assert BoundaryCounts(3, 0, 4, 0).f_score == 0


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_counts_equal_pixel_by_pixel(rng, tolerance):
    segments = np.kron(rng.integers(0, 4, (4, 5)), np.ones((4, 4), int))
    drawn = [np.kron(rng.integers(0, 3, (2, 4)), np.ones((8, 5), int)) for _ in range(3)]

    def pixels(labels):
        return list(zip(*np.nonzero(boundaries(labels)), strict=True))

    def near(pixel, others):
        return any(max(abs(pixel[0] - y), abs(pixel[1] - x)) <= tolerance for y, x in others)

    own, each = pixels(segments), [pixels(one) for one in drawn]
    anybody = [pixel for one in each for pixel in one]
    expected = BoundaryCounts(
        len(own),
        sum(near(pixel, anybody) for pixel in own),
        len(anybody),
        sum(near(pixel, own) for pixel in anybody),
    )
    assert count_boundaries(segments, drawn, tolerance) == expected


def test_each_connected_part_of_a_cluster_is_a_segment(rng):
    labels = np.array([[7, 7, 2, 7], [7, 2, 2, 7], [2, 7, 7, 7]])
    # Corners do not connect.
    found = connected_segments(labels)
    assert len(np.unique(found)) == 4
    assert found[0, 0] == found[1, 0] and found[0, 3] == found[2, 1] != found[0, 0]
    assert found[2, 0] not in (found[0, 2], found[0, 0])
    measure = pytest.importorskip("skimage.measure")
    noise = rng.integers(0, 3, (20, 31))
    expected = measure.label(noise, background=-1, connectivity=1)
    found = connected_segments(noise)
    pairs = {(int(a), int(b)) for a, b in zip(found.flat, expected.flat, strict=True)}
    assert len(pairs) == found.max() + 1 == expected.max()
    assert connected_segments(np.zeros((1, 1), int)).tolist() == [[0]]


def test_summary_adds_counts_and_means_the_rest():
    good = score_segments(halves(6), [halves(6), halves(6)], 0)
    bad = score_segments(halves(6), [halves(9)], 0)
    assert (good.achievable_accuracy, good.undersegmentation, good.segments) == (1, 0, 2)
    # Columns 6 to 8 belong to the left part: 3 of 12 are wrong.
    assert bad.achievable_accuracy == 0.75
    found = summarize([good, bad])
    assert found["boundary_precision"] == 0.5 and found["boundary_recall"] == 12 / 18
    assert found["boundary_f"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (7 / 6))
    assert found["mean_image_f"] == 0.5 and found["achievable_accuracy"] == 0.875
    assert (found["images"], found["annotations"], found["segments_per_image"]) == (2, 3, 2)
    with pytest.raises(ValueError, match="no scores"):
        summarize([])


@pytest.fixture
def folder(tmp_path):
    """Dark left and bright right halves; one annotator drew them, the other nothing."""
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind / "val").mkdir(parents=True)
    for name in ("7", "8_1"):
        image = np.repeat(halves(16, 24, 40)[..., None] * 200, 3, 2).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "images" / "val" / f"{name}.png")
        for annotator, labels in (("anna", halves(16, 24, 40)), ("b", np.zeros((24, 40)))):
            file = tmp_path / "data" / "labels" / "val" / f"{name}_{annotator}.png"
            Image.fromarray(labels.astype(np.uint8)).save(file)
    return tmp_path / "data"


def test_annotations_are_those_of_the_image_alone(folder):
    home = folder / "labels" / "val"
    Image.fromarray(np.ones((24, 40), np.uint8)).save(home / "77_0.png")
    assert list(read_annotations(folder, "val", "7")) == ["anna", "b"]
    assert list(read_annotations(folder, "val", "8_1")) == ["anna", "b"]
    with pytest.raises(UserError, match="no 9_<annotator>"):
        read_annotations(folder, "val", "9")
    (home / "7_c.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"7_c\.png cannot be read"):
        read_annotations(folder, "val", "7")
    Image.fromarray(np.ones((24, 40, 3), np.uint8)).save(home / "7_c.png")
    with pytest.raises(UserError, match="7_c.png has 3 channels"):
        read_annotations(folder, "val", "7")


def test_a_model_is_scored(folder, tmp_path):
    out = tmp_path / "out"
    found = evaluate_boundaries(
        "lab", folder, out, clusters=2, fit_split="val", tolerance=1, device="cpu"
    )
    assert json.loads((out / "results.json").read_text()) == found
    spread = found["boundaries"].pop("interval")
    assert spread["boundary_f"] == [1.0, 1.0] and (spread["images"], spread["resamples"]) == (
        2,
        1000,
    )
    assert found["boundaries"] == {
        "boundary_precision": 1.0,
        "boundary_recall": 1.0,
        "boundary_f": 1.0,
        "mean_image_f": 1.0,
        "achievable_accuracy": 1.0,
        # Of whoever drew one segment, the smaller part of neither half is cut.
        "undersegmentation": 0.0,
        "segments_per_image": 2.0,
        "images": 2,
        "annotations": 4,
    }
    assert found["concepts"]["fit_split"] == "val" and found["concepts"]["number"] == 2
    assert found["per_image"]["7"]["hit"] == 24 == found["per_image"]["8_1"]["wanted"]


def test_what_is_missing_is_said(folder, tmp_path):
    with pytest.raises(UserError, match="no folder images/train; its splits are val"):
        evaluate_boundaries("lab", folder, tmp_path, clusters=2, device="cpu")
    with pytest.raises(UserError, match="lab holds no prototypes: name clusters"):
        evaluate_boundaries("lab", folder, tmp_path, device="cpu")
    Image.fromarray(np.zeros((5, 40), np.uint8)).save(folder / "labels" / "val" / "7_c.png")
    with pytest.raises(UserError, match=r"7_c\.png: 40x5 pixels, but its image .* has 40x24; they"):
        evaluate_boundaries("lab", folder, tmp_path, clusters=2, fit_split="val", device="cpu")


def test_images_without_annotations_are_named_before_anything_is_computed(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "vice.evaluation.evaluate_boundaries.load", lambda *_: pytest.fail("a model is loaded")
    )
    for file in (folder / "labels" / "val").glob("7_*.png"):
        file.unlink()
    with pytest.raises(UserError, match=r"no NAME_ANNOTATOR\.png, .* of 7: add them, or take"):
        evaluate_boundaries("lab", folder, tmp_path / "out", clusters=2, fit_split="val")
    assert not (tmp_path / "out").exists()


def test_what_is_read_is_said(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    home = folder / "labels" / "val"
    Image.fromarray(np.ones((24, 40), np.uint8)).save(home / "nobody_0.png")
    (folder / "images" / "val" / "notes.txt").write_text("x")
    asked = {"fit_split": "val", "tolerance": 1, "device": "cpu"}
    found = evaluate_boundaries("lab", folder, tmp_path / "out", clusters=2, **asked)
    assert "ignored: .txt 1" in caplog.text
    assert "1 files are of no image of val, and left out: nobody_0.png" in caplog.text
    assert sum(each["images"] for each in found["content"]["score"]["formats"].values()) == 2
    assert "is replaced" not in caplog.text
    evaluate_boundaries("lab", folder, tmp_path / "out", clusters=2, **asked)
    assert "is replaced" not in caplog.text
    evaluate_boundaries("lab", folder, tmp_path / "out", clusters=1, **asked)
    assert "of an earlier evaluation is replaced: concepts.number was 2, is 1" in caplog.text

"""Scores that are made of sums over images, against loops over resamples, images and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.evaluation.boundaries import BoundaryCounts, SegmentScores, summarize
from vice.evaluation.image_sums import resampled_sums, sum_intervals
from vice.evaluation.outline_sums import outline_scores, outline_sums
from vice.evaluation.position_counts import PositionCounts, r2_scores
from vice.scoring import CountTable

NAMES = (
    *("boundary_precision", "boundary_recall", "boundary_f", "mean_image_f"),
    *("achievable_accuracy", "undersegmentation"),
)


def drawn(images, number):
    """The images of a resample, one by one."""
    return np.random.default_rng([0, number]).integers(images, size=images)


def outlines(rng, images):
    scores = []
    for _ in range(images):
        found, wanted = rng.integers(0, 9, 2) * rng.integers(0, 2, 2)
        counts = BoundaryCounts(
            int(found),
            int(rng.integers(0, found + 1)),
            int(wanted),
            int(rng.integers(0, wanted + 1)),
        )
        scores.append(SegmentScores(counts, *rng.random(2), 3, 2))
    return scores


@pytest.mark.parametrize("images", [1, 2, 7])
def test_outlines_of_resamples_are_summaries_of_their_images(rng, images):
    scores = outlines(rng, images)
    found = outline_scores(resampled_sums(outline_sums(scores), resamples=40))
    for number in range(40):
        expected = summarize(scores[index] for index in drawn(images, number))
        for name in NAMES:
            value = np.nan if expected[name] is None else expected[name]
            assert found[name][number] == pytest.approx(value, nan_ok=True), name


def test_interval_is_that_of_the_resampled_scores(rng):
    scores = outlines(rng, 30)
    sums = outline_sums(scores)
    said = sum_intervals(sums, outline_scores)
    values = [
        summarize(scores[index] for index in drawn(30, number))["boundary_f"]
        for number in range(1000)
    ]
    assert said["boundary_f"] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert (said["images"], said["resamples"], said["undefined"]["boundary_f"]) == (30, 1000, 0)
    assert sum_intervals(sums[:1], outline_scores) is None


def pixels(rng, images):
    """Errors, positions, labels and predictions of pixels of some of the images."""
    count = 200
    return {
        "images": torch.from_numpy(rng.choice(images[:-1], count)),
        "errors": torch.from_numpy(rng.normal(size=(count, 2)) * 0.1),
        "positions": torch.from_numpy(rng.random((count, 2))).float(),
        "labels": torch.from_numpy(rng.integers(0, 3, count)),
        "predicted": torch.from_numpy(rng.integers(0, 4, count)),
    }


def test_r2_of_resamples_is_that_of_their_pixels(rng):
    made = pixels(rng, np.arange(6))
    counts = PositionCounts(made["images"], 6, 3, "present")
    said = counts.add_positions("before r2", made["errors"], made["positions"])
    found = r2_scores(resampled_sums(counts.sums["before r2"]))
    for number in range(50):
        chosen = np.concatenate(
            [np.flatnonzero(made["images"].numpy() == index) for index in drawn(6, number)]
        )
        error = made["errors"].numpy()[chosen]
        places = made["positions"].numpy()[chosen].astype(float)
        expected = 1 - (error**2).sum(0) / ((places - places.mean(0)) ** 2).sum(0)
        assert (found["x"][number], found["y"][number]) == pytest.approx(tuple(expected))
    low, high = said["y"]
    assert low < found["y"].mean() < high


def test_r2_of_one_place_is_none():
    counts = PositionCounts(torch.arange(3), 3, 2, "present")
    same = torch.full((3, 2), 0.3)
    assert counts.add_positions("r2", torch.zeros(3, 2).double(), same)["x"] is None


def test_counts_of_images_are_those_of_their_pixels(rng):
    made = pixels(rng, np.arange(6))
    counts = PositionCounts(made["images"], 6, 3, "present")
    mapping = {"greedy": torch.tensor([0, 1, 2, 0])}
    said = counts.add_classes("before 4", made["predicted"], made["labels"], mapping, 4)
    tables = counts.tables["before 4"]
    for index in range(6):
        expected = CountTable(4, 3)
        inside = made["images"] == index
        expected.update(made["predicted"][inside], made["labels"][inside])
        cells = slice(tables.starts[index], tables.starts[index + 1])
        found = np.zeros(12, np.int64)
        found[tables.cells[cells]] = tables.counts[cells]
        assert (found == expected.counts.flatten().numpy()).all()
    whole = CountTable(4, 3)
    whole.update(made["predicted"], made["labels"])
    assert torch.equal(tables.total().counts, whole.counts)
    low, high = said["greedy"]["accuracy"]
    assert low <= whole.accuracy(mapping["greedy"]) <= high

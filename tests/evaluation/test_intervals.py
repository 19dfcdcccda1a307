"""Bootstrap intervals against loops in float64 and the coverage of simulated data."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from vice.errors import UserError
from vice.evaluation.image_counts import (
    ImageTables,
    image_cells,
    load_image_tables,
    save_image_tables,
)
from vice.evaluation.intervals import (
    RESAMPLES,
    describe_interval,
    draw_images,
    interval,
    interval_text,
    resampled_scores,
    score_intervals,
)
from vice.evaluation.results import scores
from vice.scoring import CountTable


def draw_tables(rng, images, clusters, classes, pixels=400):
    """Tables of single images, as whole arrays and as they are kept; some images hold no pixel."""
    whole = np.zeros((images, clusters, classes), np.int64)
    for image in np.flatnonzero(rng.random(images) < 0.9):
        table = whole[image]
        there = rng.choice(classes, min(classes, 3), replace=False)
        cells = rng.integers(clusters, size=pixels), rng.choice(there, pixels)
        np.add.at(table, cells, 1)
        table[:, there[0]] *= rng.integers(0, 5, clusters)
    return whole, keep(whole)


def keep(whole):
    kept = []
    for counts in whole:
        table = CountTable(*counts.shape)
        table.counts = torch.from_numpy(counts)
        kept.append(image_cells(table))
    return ImageTables.of(kept, *whole.shape[1:])


def loop_scores(table, mapping):
    """mIoU and accuracy by their definitions, in float64, one pixel count after the other."""
    classes = table.shape[1]
    matrix = np.zeros((classes, classes))
    for cluster, row in enumerate(table):
        for true, count in enumerate(row):
            matrix[true, mapping[cluster]] += float(count)
    ious = []
    for c in range(classes):
        union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
        if union:
            ious.append(matrix[c, c] / union)
    total = matrix.sum()
    return (np.mean(ious), np.trace(matrix) / total) if total else (np.nan, np.nan)


def loop_match(table):
    mapping = [int(np.argmax(row)) if row.any() else int(table.sum(0).argmax()) for row in table]
    for cluster, matched in zip(*linear_sum_assignment(-table), strict=True):
        mapping[cluster] = matched
    return mapping


@pytest.mark.parametrize(("clusters", "classes"), [(4, 4), (9, 4), (3, 5)])
def test_resamples_equal_a_loop_in_float64(rng, clusters, classes):
    whole, tables = draw_tables(rng, 12, clusters, classes)
    fixed = torch.from_numpy(rng.integers(classes, size=clusters))
    found = resampled_scores(tables, {"greedy": fixed, "hungarian": "hungarian"}, resamples=40)
    for resample in range(40):
        chosen = np.random.default_rng([0, resample]).integers(12, size=12)
        table = np.zeros(whole.shape[1:])
        for image in chosen:
            table = table + whole[image]
        for name, mapping in (("greedy", fixed.tolist()), ("hungarian", loop_match(table))):
            expected = loop_scores(table, mapping)
            values = [found[name][metric][resample] for metric in ("miou", "accuracy")]
            np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_scores_of_each_resample_are_those_of_the_count_table(rng, monkeypatch):
    """The same bits of matching as the published score, whatever is held at once."""
    whole, tables = draw_tables(rng, 6, 7, 3)
    mappings = {name: name for name in ("hungarian", "hungarian_iou")}
    found = resampled_scores(tables, mappings, resamples=30, seed=3)
    for name, resample in product(mappings, range(30)):
        table = CountTable(7, 3)
        weights = draw_images(6, resample, seed=3)
        table.counts = torch.from_numpy((whole * weights[:, None, None]).sum(0))
        mapping = getattr(table, name)()
        scores = found[name]["miou"][resample], found[name]["accuracy"][resample]
        assert scores == pytest.approx((table.miou(mapping), table.accuracy(mapping)), rel=1e-12)
    monkeypatch.setattr("vice.evaluation.intervals._MEMORY", 1)
    again = resampled_scores(tables, mappings, resamples=30, seed=3)
    for name in mappings:
        assert all(np.array_equal(again[name][m], found[name][m]) for m in ("miou", "accuracy"))


def test_absent_classes_count_zero_where_the_mean_is_over_all():
    whole = np.zeros((3, 3, 3), np.int64)
    whole[:, 0, 0] = 5
    mean = resampled_scores(keep(whole), {"linear": torch.arange(3)}, over="all")["linear"]["miou"]
    assert np.allclose(mean, 1 / 3)


def test_an_interval_is_that_of_quantiles_and_says_how_it_was_found(rng):
    _, tables = draw_tables(rng, 20, 3, 3)
    identity = torch.arange(3)
    said = score_intervals(tables, {"linear": identity})["linear"]
    values = resampled_scores(tables, {"linear": identity})["linear"]["miou"]
    ordered = np.sort(values)
    assert len(ordered) == RESAMPLES == said["resamples"] and said["images"] == 20
    low, high = said["miou"]
    assert ordered[24] <= low <= ordered[25] and ordered[974] <= high <= ordered[975]
    total = tables.total()
    assert low < total.miou(identity) < high
    assert (said["level"], said["seed"], said["undefined"]) == (0.95, 0, 0)
    assert interval_text(said["miou"]) == f" [{100 * low:.2f}, {100 * high:.2f}]"
    assert interval_text(None) == ""


def test_parts_of_the_classes_have_intervals_under_the_mapping_of_the_whole(rng):
    whole, tables = draw_tables(rng, 10, 6, 4)
    mappings = {"greedy": torch.tensor([0, 1, 2, 3, 2, 1]), "hungarian": "hungarian"}
    said = score_intervals(tables, mappings, {"stuff": [1, 3]})
    for name, mapping in mappings.items():
        drawn = []
        for resample in range(RESAMPLES):
            table = CountTable(6, 4)
            weights = draw_images(10, resample)
            table.counts = torch.from_numpy((whole * weights[:, None, None]).sum(0))
            part = table.restricted(table.hungarian() if name == "hungarian" else mapping, [1, 3])
            drawn.append((part.miou(part.identity()), part.accuracy(part.identity())))
        if name == "hungarian":
            # Matched anew: the spread of the resamples, around the score.
            part = tables.total().restricted(tables.total().hungarian(), [1, 3])
            score = np.array([part.miou(part.identity()), part.accuracy(part.identity())])
            drawn = np.clip(drawn + (score - np.nanmedian(drawn, axis=0)), 0, 1)
        low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
        for m, metric in enumerate(("miou", "accuracy")):
            assert said[name]["parts"]["stuff"][metric] == pytest.approx((low[m], high[m]))
        assert said[name]["miou"] == score_intervals(tables, mappings)[name]["miou"]
    table, classes = (
        tables.total(),
        tuple(f"{c}-{k}" for c, k in enumerate(2 * ["things", "stuff"])),
    )
    part = {"miou": (0.1, 0.2)}
    given = {"miou": (0.3, 0.4), "parts": {"things2": part, "stuff2": part}}
    found = scores(table, mappings["greedy"], classes, given)
    assert found["interval"] == {"miou": (0.3, 0.4)}
    assert [each["interval"] for each in found["parts"].values()] == [part, part]


def test_more_clusters_than_images_can_tell_leave_the_score_inside_its_interval(rng):
    """Matched anew on few different images, resamples score higher than all images together."""
    whole = np.zeros((12, 60, 5), np.int64)
    np.add.at(
        whole, (np.repeat(range(12), 40), rng.integers(60, size=480), rng.integers(5, size=480)), 1
    )
    tables = keep(whole)
    drawn = resampled_scores(tables, {"hungarian": "hungarian"})["hungarian"]["miou"]
    score = tables.total().miou(tables.total().hungarian())
    assert np.quantile(drawn, 0.025) > score
    said = score_intervals(tables, {"hungarian": "hungarian"})["hungarian"]
    low, high = said["miou"]
    assert low < score < high and said["method"].endswith("centered at the score")
    assert high - low == pytest.approx(np.diff(np.quantile(drawn, [0.025, 0.975]))[0])


def test_resamples_without_a_labelled_pixel_are_counted_and_one_image_has_no_interval():
    whole = np.zeros((2, 2, 2), np.int64)
    whole[0] = [[3, 1], [0, 2]]
    said = score_intervals(keep(whole), {"linear": torch.arange(2)})["linear"]
    empty = sum(draw_images(2, r)[0] == 0 for r in range(RESAMPLES))
    assert said["undefined"] == empty > 0
    assert said["miou"] == pytest.approx([np.mean([3 / 4, 2 / 3])] * 2)
    assert score_intervals(keep(whole[:1]), {"linear": torch.arange(2)}) == {"linear": None}
    assert interval(np.array([np.nan])) is None


def simulate(rng, images):
    """Images of a population whose classes, sizes and errors differ from image to image."""
    whole = np.zeros((images, 4, 4), np.int64)
    for table in whole:
        shares = rng.dirichlet([0.5, 0.4, 0.3, 0.3])
        right = np.clip(rng.normal([0.8, 0.7, 0.6, 0.5], 0.15), 0, 1)
        for true, pixels in enumerate(rng.multinomial(rng.integers(200, 600), shares)):
            mistakes = (1 - right[true]) / 3
            chances = [right[true] if k == true else mistakes for k in range(4)]
            table[:, true] = rng.multinomial(pixels, chances)
    return whole


def test_intervals_cover_the_population_as_often_as_they_say(rng):
    everything = simulate(rng, 20_000).sum(0)
    truth = loop_scores(everything, range(4))
    mappings = {"linear": torch.arange(4), "hungarian": "hungarian"}
    trials, hits = 150, {(name, m): 0 for name in mappings for m in range(2)}
    for _ in range(trials):
        tables = keep(simulate(rng, 80))
        found = resampled_scores(tables, mappings, resamples=200)
        total = tables.total()
        matched = total.hungarian()
        center = {"miou": total.miou(matched), "accuracy": total.accuracy(matched)}
        said = {
            "linear": describe_interval(found["linear"], 80),
            "hungarian": describe_interval(found["hungarian"], 80, center),
        }
        for name, m in hits:
            low, high = said[name][("miou", "accuracy")[m]]
            hits[name, m] += low <= truth[m] <= high
    assert all(0.90 <= count / trials <= 0.99 for count in hits.values()), hits


def test_tables_come_back_from_their_file(rng, tmp_path):
    _, first = draw_tables(rng, 5, 6, 3)
    _, second = draw_tables(rng, 5, 3, 3)
    path = tmp_path / "per_image.npz"
    save_image_tables(path, {"6": first, "3": second})
    shapes = {"6": (6, 3), "3": (3, 3)}
    for name, table in load_image_tables(path, shapes, 5).items():
        expected = {"6": first, "3": second}[name]
        assert torch.equal(table.total().counts, expected.total().counts)
        assert table.images == 5 and table.cells.dtype == np.int32
        assert np.array_equal(table.starts, expected.starts)
    with np.load(path, allow_pickle=False) as arrays:
        assert len(arrays.files) == 8
    for wrong in ((shapes, 4), ({"6": (7, 3)}, 5), ({"9": (6, 3)}, 5)):
        with pytest.raises(UserError, match=r"per_image\.npz: holds no counts of these"):
            load_image_tables(path, *wrong)


@pytest.mark.parametrize("damage", ["cells", "counts", "starts", "pickle", "cut", "missing"])
def test_a_damaged_file_of_counts_is_named(damage, rng, tmp_path):
    _, table = draw_tables(rng, 4, 3, 3)
    path = tmp_path / "per_image.npz"
    save_image_tables(path, {"3": table})
    arrays = dict(np.load(path))
    if damage in ("cells", "counts", "starts"):
        arrays[f"3.{damage}"][-1] = {"cells": 9, "counts": 0, "starts": 2}[damage]
        np.savez(path, **arrays)
    elif damage == "pickle":
        np.savez(path, **{**arrays, "3.cells": np.array([{}], object)})
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.unlink()
    with pytest.raises(UserError, match="evaluate again"):
        load_image_tables(path, {"3": (3, 3)}, 4)

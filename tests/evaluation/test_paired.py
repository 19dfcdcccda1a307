"""Paired differences between results on the same images."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from tests.evaluation.test_compare import ROOT, linear
from tests.evaluation.test_intervals import keep, loop_match, loop_scores
from vice.errors import UserError
from vice.evaluation.compare import make_tables, readouts
from vice.evaluation.comparison_page import to_html, to_markdown
from vice.evaluation.image_counts import save_image_tables
from vice.evaluation.intervals import (
    MATCHED_ANEW,
    RESAMPLES,
    resampled_mapping,
    score_intervals,
)
from vice.evaluation.paired import difference, pair_tables, pairing_sections, row_score
from vice.evaluation.scored_folders import read_results

IMAGES = 30


def draw(rng, right):
    """Counts of images with two classes, of which a share is right."""
    whole = np.zeros((IMAGES, 2, 2), np.int64)
    for table in whole:
        for true, pixels in enumerate(rng.integers(50, 150, 2)):
            hits = rng.binomial(pixels, right)
            table[true, true], table[1 - true, true] = hits, pixels - hits
    return whole


def write(folder, whole, kind="linear", spec=None, seed=0):
    """A results directory with these counts."""
    tables = keep(whole)
    result = linear(spec or folder.name, seed)
    result["dataset"]["images"] = {"fit": 3, "score": len(whole)}
    total = tables.total()
    if kind == "linear":
        identity = total.identity()
        said = score_intervals(tables, {"linear": identity})["linear"]
        result["linear"] = {
            "miou": total.miou(identity), "accuracy": total.accuracy(identity), "interval": said
        }  # fmt: skip
        name = "linear"
    else:
        name, matched = str(whole.shape[1]), {}
        mappings = {"greedy": torch.arange(whole.shape[1]) % whole.shape[2]}
        mappings |= {matching: getattr(total, matching)() for matching in MATCHED_ANEW}
        given = {m: resampled_mapping(m, mapping) for m, mapping in mappings.items()}
        intervals = score_intervals(tables, given)
        for matching, mapping in mappings.items():
            scores = {"miou": total.miou(mapping), "accuracy": total.accuracy(mapping)}
            scores["interval"] = intervals[matching]
            matched[matching] = {**scores, "mapping": mapping.tolist()}
        result |= {"kind": "clusters", "clusters": {name: matched}}
        result["protocol"]["fields"]["matchings"] = list(mappings)
        result["classes"] = [chr(ord("a") + c) for c in range(whole.shape[2])]
    folder.mkdir()
    save_image_tables(folder / "per_image.npz", {name: tables})
    (folder / "results.json").write_text(json.dumps(result))
    return folder


def loop_resamples(counts, match):
    """MIoU and accuracy of each resample of the images, by a loop: (R, 2)."""
    found = []
    for resample in range(RESAMPLES):
        chosen = np.random.default_rng([0, resample]).integers(len(counts), size=len(counts))
        table = counts[chosen].sum(0)
        found.append(loop_scores(table, match(table)))
    return np.array(found)


def loop_centered(drawn, point):
    """Resampled scores (R, 2), one by one moved so far that half of them lie below the score."""
    moved = np.empty_like(drawn)
    for m, score in enumerate(point):
        ordered = sorted(drawn[:, m])
        half = len(ordered) // 2
        shift = score - (ordered[half - 1] + ordered[half]) / 2
        moved[:, m] = [min(max(value + shift, 0), 1) for value in drawn[:, m]]
    return moved


def loop_match_iou(table):
    """Pairs with the greatest sum of IoUs, and for further clusters the greatest of each."""
    worth = np.zeros(table.shape)
    for k, c in np.ndindex(table.shape):
        union = table[k].sum() + table[:, c].sum() - table[k, c]
        worth[k, c] = table[k, c] / union if union else 0
    mapping = [int(np.argmax(row)) for row in worth]
    for cluster, matched in zip(*linear_sum_assignment(-worth), strict=True):
        mapping[cluster] = matched
    return mapping


MATCHES = {
    "linear": lambda table: range(table.shape[1]),
    "greedy": lambda table: [k % table.shape[1] for k in range(len(table))],
    "hungarian": loop_match,
    "hungarian_iou": loop_match_iou,
}


def loop_differences(one, other, readout):
    """Ends of the interval of each metric's difference, by a loop, and the resamples' medians."""
    name = readout.split()[-1]
    drawn = []
    for counts in (one, other):
        scores = loop_resamples(counts, MATCHES[name])
        if name.startswith("hungarian"):
            total = counts.sum(0)
            scores = loop_centered(scores, loop_scores(total, MATCHES[name](total)))
        drawn.append(scores)
    return np.quantile(drawn[0] - drawn[1], [0.025, 0.5, 0.975], axis=0)


@pytest.mark.parametrize("kind", ["linear", "clusters"])
def test_differences_are_those_of_the_same_resamples(kind, rng, tmp_path):
    first, second = draw(rng, 0.7), draw(rng, 0.75)
    folders = [write(tmp_path / "a", first, kind), write(tmp_path / "b", second, kind)]
    results = read_results(folders)
    (pairing,) = pair_tables(make_tables(results))
    assert (pairing.reference, pairing.images, list(pairing.rows)) == ("a", IMAGES, ["b"])
    for readout, found in pairing.rows["b"].items():
        match = MATCHES[readout.split()[-1]]
        low, _, high = loop_differences(second, first, readout)
        for m, name in enumerate(("miou", "accuracy")):
            assert found[name].low == pytest.approx(low[m], rel=1e-9)
            assert found[name].high == pytest.approx(high[m], rel=1e-9)
            value = loop_scores(second.sum(0), match(second.sum(0)))[m]
            value -= loop_scores(first.sum(0), match(first.sum(0)))[m]
            assert found[name].value == pytest.approx(value)
            assert found[name].within == (low[m] <= 0 <= high[m])


def draw_clusters(rng, clusters, classes, vague):
    """Counts of images of few classes each, the clusters of which differ the less, the vaguer."""
    profiles = 0.02 + 8 * rng.dirichlet(np.full(clusters, vague), classes)
    whole = np.zeros((IMAGES, clusters, classes), np.int64)
    for table in whole:
        for c in rng.choice(classes, 2, replace=False):
            pixels = int(rng.integers(50, 400))
            table[:, c] = rng.multinomial(pixels, rng.dirichlet(profiles[c]))
    return whole


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (12, 6), (3, 5)])
def test_differences_of_matchings_taken_anew_lie_around_that_of_the_scores(
    clusters, classes, rng, tmp_path
):
    """A vague embedder gains more by matching anew than a sharp one, and than none."""
    whole = [draw_clusters(rng, clusters, classes, vague) for vague in (0.5, 5.0)]
    folders = [write(tmp_path / n, of, "clusters") for n, of in zip("ab", whole, strict=True)]
    tables = make_tables(read_results(folders))
    (pairing,) = pair_tables(tables)
    assert list(pairing.rows["b"]) == [f"{clusters} {m}" for m in ("greedy", *MATCHED_ANEW)]
    for readout, found in pairing.rows["b"].items():
        low, median, high = loop_differences(whole[1], whole[0], readout)
        for m, name in enumerate(("miou", "accuracy")):
            ends = found[name].low, found[name].high
            assert ends == pytest.approx((low[m], high[m]), rel=1e-9, abs=1e-12)
            if "hungarian" in readout:
                assert abs(median[m] - found[name].value) < 0.1 * (high[m] - low[m])
    (turned,) = pair_tables(tables, "b")
    for readout, found in turned.rows["a"].items():
        for name, each in found.items():
            other = pairing.rows["b"][readout][name]
            assert (each.low, each.high) == pytest.approx((-other.high, -other.low), abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    "readout",
    [
        "27 hungarian",
        "27 hungarian_iou",
        "27 greedy",
        "linear",
        "linear, best epoch",
        "retrieval none",
        "before r2 x",
        "after 27 hungarian mIoU",
        "after 27 greedy mIoU",
    ],
)
def test_resamples_of_a_row_are_centered_where_its_own_interval_is(readout, seeds, rng):
    drawn = [rng.uniform(0.5, 0.7, RESAMPLES) for _ in range(seeds)]
    scores = rng.uniform(0.4, 0.5, seeds).tolist()
    score, values = row_score(readout, scores, drawn)
    assert score == pytest.approx(sum(scores) / seeds)
    if "hungarian" in readout:
        assert np.median(values) == pytest.approx(score, abs=1e-12)
        assert np.ptp(values) == pytest.approx(np.ptp(np.mean(drawn, axis=0)))
    else:
        assert np.array_equal(values, np.mean(drawn, axis=0))
    zero = difference((score, values), row_score(readout, scores, drawn))
    assert (zero.value, zero.low, zero.high, zero.within) == (0, 0, 0, True)
    nothing = row_score(readout, [*scores[1:], None], drawn)
    assert nothing[0] is None and difference((score, values), nothing) is None


def test_a_row_of_which_one_is_subtracted_has_the_interval_that_its_result_says(rng, tmp_path):
    """Less a row without spread, the ends are the row's own, moved by that row's score."""
    constant = np.repeat(np.array([[[90, 10], [20, 80]]]), IMAGES, axis=0)
    folders = [write(tmp_path / "a", constant, "clusters")]
    folders.append(write(tmp_path / "b", draw(rng, 0.7), "clusters"))
    results = read_results(folders)
    (pairing,) = pair_tables(make_tables(results))
    for readout, found in pairing.rows["b"].items():
        first, second = (readouts(result)[readout] for result in results)
        for name, each in found.items():
            ends = [end - first[name] for end in second["interval"][name]]
            assert [each.low, each.high] == pytest.approx(ends, abs=1e-9)


def test_a_pair_tells_apart_what_single_intervals_do_not(rng, tmp_path):
    """Images differ far more than the two embedders: only the pairs show the difference."""
    easy = rng.uniform(0.3, 0.95, IMAGES)
    whole = np.zeros((2, IMAGES, 2, 2), np.int64)
    for i, share in enumerate(easy):
        for embedder in range(2):
            hits = int(200 * share) + 4 * embedder
            whole[embedder, i] = [[hits, 200 - hits], [200 - hits, hits]]
    folders = [write(tmp_path / name, counts) for name, counts in zip("ab", whole, strict=True)]
    results = read_results(folders)
    low, high = (result["linear"]["interval"]["miou"] for result in results)
    assert low[1] > high[0]
    (pairing,) = pair_tables(make_tables(results))
    difference = pairing.rows["b"]["linear"]["miou"]
    assert difference.low > 0 and not difference.within
    text = to_markdown(make_tables(results), pairing_sections([pairing]))
    assert "Differences in table 1: each row less a" in text and "(within)" not in text
    shown = f"| a | 1 | {100 * results[0]['linear']['miou']:.2f} [{100 * low[0]:.2f}, "
    assert shown in text
    (other,) = pair_tables(make_tables(results), against="b")
    assert other.rows["a"]["linear"]["miou"].value == -difference.value
    same = make_tables(read_results([folders[0], write(tmp_path / "c", whole[0])]))
    text = to_html(same, pairing_sections(pair_tables(same)))
    assert "+0.00 [+0.00, +0.00] (within)" in text


def test_seeds_of_a_row_are_averaged_in_each_resample(rng, tmp_path):
    whole = [draw(rng, share) for share in (0.7, 0.72, 0.74)]
    for number, counts in enumerate(whole[:2]):
        write(tmp_path / f"v{number}", counts, spec="v", seed=number)
    write(tmp_path / "w", whole[2])
    tables = make_tables(read_results([tmp_path / name for name in ("v0", "v1", "w")]))
    (pairing,) = pair_tables(tables)
    found = pairing.rows["w"]["linear"]["accuracy"]
    drawn = []
    for resample in range(RESAMPLES):
        chosen = np.random.default_rng([0, resample]).integers(IMAGES, size=IMAGES)
        scores = [loop_scores(counts[chosen].sum(0), range(2))[1] for counts in whole]
        drawn.append(scores[2] - np.mean(scores[:2]))
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())


def test_what_cannot_be_paired_is_said(rng, tmp_path):
    folders = [write(tmp_path / name, draw(rng, 0.7)) for name in ("a", "b", "c")]
    (folders[1] / "per_image.npz").unlink()
    tables = make_tables(read_results(folders))
    (pairing,) = pair_tables(tables)
    assert list(pairing.rows) == ["c"]
    assert pairing.notes == [
        f"Table 1: b cannot be paired, without per_image.npz in {folders[1]}: evaluate again "
        "(means over seeds, of clusters=objects, have none)."
    ]
    (pairing,) = pair_tables(tables, against="b")
    assert not pairing.rows and "b cannot be paired" in pairing_sections([pairing])[0].notes[0]
    with pytest.raises(UserError, match="--against d: no table has such a row; there are a, b, c"):
        pair_tables(tables, against="d")


def test_rows_with_nothing_in_common_are_left_out_and_named(rng, tmp_path):
    """Of other numbers of clusters, wherever in the table they stand."""
    few, many = draw(rng, 0.7), np.concatenate([draw(rng, 0.7), draw(rng, 0.6)], 1)
    for order in ("abc", "bac", "bca"):
        wholes = {name: few if name == "a" else many + (name == "b") for name in order}
        folders = [
            write(tmp_path / f"{order}-{name}", whole, "clusters", spec=name)
            for name, whole in wholes.items()
        ]
        tables = make_tables(read_results(folders))
        (pairing,) = pair_tables(tables)
        first, second = (name for name in order if name != "a")
        assert (pairing.reference, list(pairing.rows)) == (first, [second])
        assert pairing.notes == [
            f"Table 1: nothing of a is read out as something of {first} is: --against names "
            "another row."
        ]
        (alone,) = pair_tables(tables, against="a")
        (section,) = pairing_sections([alone])
        assert not section.lines and "nothing of" in section.notes[0]
    (none,) = pair_tables(make_tables(read_results([folders[0], folders[2]])))
    assert not none.rows and len(none.notes) == 1


def test_counts_of_another_result_are_refused(rng, tmp_path):
    folders = [write(tmp_path / name, draw(rng, 0.7)) for name in ("a", "b")]
    (folders[0] / "per_image.npz").rename(folders[1] / "per_image.npz")
    write(tmp_path / "c", draw(rng, 0.7))
    tables = make_tables(read_results([folders[1], tmp_path / "c"]))
    with pytest.raises(UserError, match=r"per_image\.npz: its counts give another mIoU"):
        pair_tables(tables)
    fewer = write(tmp_path / "d", draw(rng, 0.7)[:9])
    other = make_tables(read_results([tmp_path / "c", fewer]))
    assert len(other) == 2 and not pair_tables(other)


def test_command_line(rng, tmp_path, monkeypatch, capsys):
    folders = [str(write(tmp_path / name, draw(rng, 0.7))) for name in ("a", "b")]
    monkeypatch.setattr(sys, "argv", ["compare.py", *folders, "--against", "b"])
    runpy.run_path(str(ROOT / "tools" / "compare.py"))["main"]()
    tables = make_tables(read_results(folders))
    shown = capsys.readouterr().out
    assert shown == to_markdown(tables, pairing_sections(pair_tables(tables, "b")))
    assert "| a | " in shown.partition("each row less b")[2]

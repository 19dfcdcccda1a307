"""Paired differences between results on the same images."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest
import torch

from tests.evaluation.test_compare import ROOT, linear
from tests.evaluation.test_intervals import keep, loop_match, loop_scores
from vice.errors import UserError
from vice.evaluation.compare import make_tables
from vice.evaluation.comparison_page import to_html, to_markdown
from vice.evaluation.image_counts import save_image_tables
from vice.evaluation.intervals import RESAMPLES, score_intervals
from vice.evaluation.paired import pair_tables, pairing_sections
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
        greedy = torch.arange(whole.shape[1]) % 2
        for matching, mapping in (("greedy", greedy), ("hungarian", total.hungarian())):
            scores = {"miou": total.miou(mapping), "accuracy": total.accuracy(mapping)}
            matched[matching] = {**scores, "mapping": mapping.tolist()}
        result |= {"kind": "clusters", "clusters": {name: matched}}
    folder.mkdir()
    save_image_tables(folder / "per_image.npz", {name: tables})
    (folder / "results.json").write_text(json.dumps(result))
    return folder


def loop_differences(one, other, match):
    """Differences of mIoU and accuracy in each resample, by a loop."""
    found = []
    for resample in range(RESAMPLES):
        chosen = np.random.default_rng([0, resample]).integers(IMAGES, size=IMAGES)
        tables = one[chosen].sum(0), other[chosen].sum(0)
        scores = [np.array(loop_scores(table, match(table))) for table in tables]
        found.append(scores[0] - scores[1])
    return np.quantile(found, [0.025, 0.975], axis=0)


@pytest.mark.parametrize("kind", ["linear", "clusters"])
def test_differences_are_those_of_the_same_resamples(kind, rng, tmp_path):
    first, second = draw(rng, 0.7), draw(rng, 0.75)
    folders = [write(tmp_path / "a", first, kind), write(tmp_path / "b", second, kind)]
    results = read_results(folders)
    (pairing,) = pair_tables(make_tables(results))
    assert (pairing.reference, pairing.images, list(pairing.rows)) == ("a", IMAGES, ["b"])
    for readout, found in pairing.rows["b"].items():
        match = loop_match if "hungarian" in readout else lambda table: range(2)
        low, high = loop_differences(second, first, match)
        for m, name in enumerate(("miou", "accuracy")):
            assert found[name].low == pytest.approx(low[m], rel=1e-9)
            assert found[name].high == pytest.approx(high[m], rel=1e-9)
            value = loop_scores(second.sum(0), match(second.sum(0)))[m]
            value -= loop_scores(first.sum(0), match(first.sum(0)))[m]
            assert found[name].value == pytest.approx(value)
            assert found[name].within == (low[m] <= 0 <= high[m])


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

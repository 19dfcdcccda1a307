"""Tables of the positional bias, outlines and masks, and the differences between their rows."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.test_compare import linear
from tests.evaluation.test_image_sums import outlines
from tests.evaluation.test_intervals import loop_match, loop_scores
from vice.errors import UserError
from vice.evaluation.compare import make_tables
from vice.evaluation.evaluate_boundaries import BoundaryReadout
from vice.evaluation.image_counts import save_image_tables
from vice.evaluation.image_sums import resampled_sums, sum_intervals
from vice.evaluation.intervals import RESAMPLES
from vice.evaluation.mask_scores import MASK_SUMS, mask_scores
from vice.evaluation.outline_sums import outline_scores, outline_sums
from vice.evaluation.own_readouts import WHEN, position_lines
from vice.evaluation.own_tables import make_own_tables, own_sections
from vice.evaluation.position_counts import PositionCounts
from vice.evaluation.position_scores import PixelSample, ReadOuts, measure_bias
from vice.evaluation.scored_folders import divide_folders

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 12


def write_outlines(folder, rng, spec, seed=0, checksum="a"):
    """A result of made-up outlines, as the evaluation writes it; returns its scores of images."""
    readout = BoundaryReadout(folder, None, {"from": "checkpoint", "number": 9})
    readout.scores = {str(i): each for i, each in enumerate(outlines(rng, IMAGES))}
    data = {"name": "people", "split": "val", "images": IMAGES, "list_checksum": checksum}
    readout.write(
        {"kind": "boundaries", "spec": spec, "seed": seed, "dataset": data, "tolerance": 2}
    )
    return list(readout.scores.values())


def tables_of(folders, names=None):
    rest, own = divide_folders(folders)
    assert rest == []
    return make_own_tables(own, names)


def test_rows_are_paired_over_the_same_resamples(rng, tmp_path):
    first = write_outlines(tmp_path / "a", rng, "one")
    second = write_outlines(tmp_path / "b", rng, "two")
    write_outlines(tmp_path / "c", rng, "three", checksum="others")
    tables = tables_of([tmp_path / name for name in "abc"])
    assert [list(table.rows) for table in tables] == [["one", "two"], ["three"]]
    scores, differences, _ = own_sections(tables)
    assert [line[0] for line in scores.lines] == ["one", "two"]
    assert scores.title == "people val, outlines, 9 concepts (checkpoint), within 2 px"
    sums = [outline_sums(of) for of in (first, second)]
    drawn = [outline_scores(resampled_sums(of))["boundary_recall"] for of in sums]
    low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
    point = [outline_scores(of.sum(0)[None])["boundary_recall"][0] for of in sums]
    shown = differences.lines[0][differences.head.index("boundary recall")]
    within = " (within)" if low <= 0 <= high else ""
    expected = f"{100 * (point[1] - point[0]):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
    assert shown == expected + within
    (_, turned, _) = own_sections(tables, "two")
    assert turned.lines[0][0] == "one" and turned.title.endswith("each row less two")


def test_seeds_of_a_row_are_averaged_and_none_is_there_twice(rng, tmp_path):
    for seed in range(2):
        write_outlines(tmp_path / f"a{seed}", rng, f"run{seed}", seed)
    folders = [tmp_path / "a0", tmp_path / "a1"]
    (table,) = tables_of(folders, {"run*": "ours"})
    (section,) = own_sections([table])
    assert section.lines[0][:2] == ["ours", "2"] and " ± " in section.lines[0][2]
    with pytest.raises(UserError, match="run0 with seed 0 is there twice"):
        tables_of([folders[0], folders[0]])


@pytest.mark.parametrize("damage", ["gone", "cut", "other", "scores"])
def test_counts_that_are_not_those_of_their_result_are_refused(damage, rng, tmp_path):
    for name in "ab":
        write_outlines(tmp_path / name, rng, name)
    file = tmp_path / "b" / "per_image.npz"
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "other":
        file.write_bytes((tmp_path / "a" / "per_image.npz").read_bytes())
    else:
        result = json.loads((tmp_path / "b" / "results.json").read_text())
        del result["boundaries"]["boundary_f"]
        (tmp_path / "b" / "results.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="evaluate again"):
        own_sections(tables_of([tmp_path / "a", tmp_path / "b"]))


def write_masks(folder, rng, masks, names=None):
    """A result of made-up masks of two classes, as the tool writes it; returns the images' sums."""
    predicted, true = rng.integers(50, 99, (2, IMAGES, 2)).astype(float)
    sums = np.concatenate(
        [np.minimum(predicted, true) * rng.random((IMAGES, 2)), predicted, true], 1
    )
    total = {name: float(values[0]) for name, values in mask_scores(sums.sum(0)[None]).items()}
    data = {"name": "people", "split": "val", "images": IMAGES, "list_checksum": "a"}
    folder.mkdir()
    save_image_tables(folder / "per_image.npz", {}, {MASK_SUMS: sums})
    (folder / "results.json").write_text(json.dumps({
        "kind": "masks", "source": {"masks": masks, "names": names}, "classes": ["sky", "house"],
        "dataset": data, "masks": {**total, "interval": sum_intervals(sums, mask_scores)},
    }))  # fmt: skip
    return sums


def test_named_masks_are_paired_image_by_image(rng, tmp_path):
    first = write_masks(tmp_path / "a", rng, "masks-a")
    second = write_masks(tmp_path / "b", rng, "masks-b", "names.json")
    write_masks(tmp_path / "c", rng, "masks-b", "other.json")
    write_outlines(tmp_path / "d", rng, "lab")
    scores, differences, outlines_of_lab = own_sections(tables_of(tmp_path / n for n in "abcd"))
    assert (scores.title, outlines_of_lab.lines[0][0]) == ("people val, named masks", "lab")
    rows = ["masks-a", "masks-b by names.json", "masks-b by other.json"]
    assert [line[0] for line in scores.lines] == rows

    def miou(sums):
        hits, predicted, true = np.split(sums, 3, 1)
        return (hits / (predicted + true - hits)).mean(1)

    assert scores.lines[0][2].startswith(f"{100 * miou(first.sum(0)[None])[0]:.2f} [")
    drawn = miou(resampled_sums(second)) - miou(resampled_sums(first))
    low, high = 100 * np.quantile(drawn, [0.025, 0.975])
    shown = differences.lines[0][differences.head.index("masks mIoU")]
    assert f"[{low:+.2f}, {high:+.2f}]" in shown
    with pytest.raises(UserError, match="masks-a with seed 0 is there twice"):
        tables_of([tmp_path / "a", tmp_path / "a"])
    (tmp_path / "b" / "per_image.npz").write_bytes((tmp_path / "a" / "per_image.npz").read_bytes())
    with pytest.raises(UserError, match="evaluate again"):
        own_sections(tables_of([tmp_path / "a", tmp_path / "b"]))


def position(rng, seed, interval):
    """A result of made-up numbers, as the evaluation writes it; R² may be below 0."""

    def some(*names, least=0.0):
        values = {name: float(rng.uniform(least, 1)) for name in names}
        ends = {name: [value - 0.1, value + 0.05] for name, value in values.items()}
        return values, ends if interval else None

    def readout():
        values, ends = some("miou", "accuracy")
        return {**values, "interval": ends}

    def once():
        r2, ends = some("x", "y", least=-0.2)
        clusters = {"3": {name: readout() for name in ("greedy", "hungarian")}}
        return {"r2": r2, "r2_interval": ends, "linear": readout(), "clusters": clusters}

    result = linear(seed=seed)
    result["arguments"]["clusters"] = [3]
    return {**result, "kind": "position", "position": {when: once() for when in WHEN}}


@pytest.mark.parametrize("interval", [True, False])
def test_every_figure_is_the_one_that_its_read_out_prints(rng, interval):
    """A share in %, R² as it is."""
    result = position(rng, 0, interval)
    (section,) = own_sections(make_own_tables([result]))
    cells = dict(zip(section.head, section.lines[0], strict=True))
    printed = dict(zip(WHEN, position_lines(result["position"]), strict=True))
    assert "in % (R² as it is)" in section.unit and len(cells) == 2 + 2 * 8
    for name, cell in list(cells.items())[2:]:
        assert cell in printed[name.split()[0]] and ("[" in cell) == interval
    seeds = [position(rng, seed, interval) for seed in range(3)]
    (section,) = own_sections(make_own_tables(seeds))
    r2 = [each["position"]["before"]["r2"]["x"] for each in seeds]
    shown = section.lines[0][section.head.index("before r2 x")]
    assert shown == f"{np.mean(r2):.3f} ± {np.std(r2, ddof=1):.3f}"


def write_position(folder, rng, vague=0.3, seed=0):
    """The positional bias of made-up vectors around those of three classes; returns its counts."""
    samples = []
    for _ in range(2):
        labels = torch.from_numpy(rng.integers(0, 3, 20 * IMAGES))
        places = torch.from_numpy(rng.random((len(labels), 2))).float()
        vectors = torch.eye(3)[labels] + vague * torch.from_numpy(rng.normal(size=(len(labels), 3)))
        images = torch.arange(IMAGES).repeat(20)
        samples.append(PixelSample(vectors.float(), places, labels, images))
    result = linear(folder.name, seed)
    del result["linear"]
    result |= {"kind": "position", "classes": ["a", "b", "c"]}
    result["protocol"]["title"] = "native, linear_optimizer=lbfgs (0123456789ab)"
    result["arguments"]["clusters"] = [3, 7]
    result["dataset"]["images"]["score"] = IMAGES
    counts = PositionCounts(samples[1].images, IMAGES, 3, "present")
    asked = ReadOuts(("a", "b", "c"), (3, 7), spherical=False, iterations=20)
    result["position"] = measure_bias(*samples, asked, counts)
    folder.mkdir()
    save_image_tables(folder / "per_image.npz", counts.tables, counts.sums)
    (folder / "results.json").write_text(json.dumps(result))
    return counts.tables


def test_a_matching_taken_anew_is_centered_before_it_is_subtracted(rng, tmp_path):
    counts = [write_position(tmp_path / n, rng, v) for n, v in (("a", 0.3), ("b", 3.0))]
    tables = tables_of([tmp_path / "a", tmp_path / "b"])
    _, section = own_sections(tables)
    shown = dict(zip(section.head, section.lines[0], strict=True))
    for when, k, m in product(WHEN, (3, 7), (0, 1)):
        drawn, points = [], []
        for of in counts:
            table = of[f"{when} {k}"]
            whole = np.zeros((IMAGES, k, 3), np.int64)
            for i, (start, end) in enumerate(pairwise(table.starts)):
                whole[i].reshape(-1)[table.cells[start:end]] = table.counts[start:end]
            points.append(loop_scores(whole.sum(0), loop_match(whole.sum(0)))[m])
            values = []
            for resample in range(RESAMPLES):
                chosen = np.random.default_rng([0, resample]).integers(IMAGES, size=IMAGES)
                total = whole[chosen].sum(0)
                values.append(loop_scores(total, loop_match(total))[m])
            drawn.append(np.clip(np.array(values) + points[-1] - np.median(values), 0, 1))
        low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
        within = " (within)" if low <= 0 <= high else ""
        expected = f"{100 * (points[1] - points[0]):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        assert shown[f"{when} {k} hungarian {('mIoU', 'accuracy')[m]}"] == expected + within


def test_the_protocol_is_called_as_in_other_tables(rng):
    """Results of earlier versions, which have no title, are in the same table."""
    results = [position(rng, seed, True) for seed in range(2)]
    plain = "msrc21 test, positional bias, native (0123456789ab)"
    assert [table.title for table in make_own_tables(results)] == [plain]
    title = "native, linear_optimizer=lbfgs (0123456789ab)"
    results[1]["protocol"]["title"] = title
    (table,) = make_own_tables(results)
    assert table.title == f"msrc21 test, positional bias, {title}"
    others = [linear(seed=seed) for seed in range(2)]
    others[1]["protocol"]["title"] = title
    (other,) = make_tables(others)
    assert other.title == f"msrc21 test, linear, {title}"


def test_command_line(rng, tmp_path):
    for name in "ab":
        write_outlines(tmp_path / name, rng, name)
    tool = [sys.executable, ROOT / "tools" / "compare.py", tmp_path / "a", tmp_path / "b"]
    done = subprocess.run(tool, capture_output=True, text=True, check=True)
    assert "**people val, outlines, 9 concepts (checkpoint), within 2 px**" in done.stdout
    assert "| a | 1 |" in done.stdout and "each row less a" in done.stdout

"""A table says on which images its rows were scored, and when not all on the same."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("vissl")

from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.scored_images import scored_images

RESULT = {
    "dataset": {
        "name": "msrc21",
        "fit_name": "msrc21",
        "splits": {"fit": "train", "score": "test"},
        "images": {"fit": 276, "score": 256},
        "list_checksums": {"fit": "3fd3d0133c64", "score": "768773b511e1"},
    },
    "content": {role: {"pixels": role, "label_files": role} for role in ("fit", "score")},
}
SAID = (
    "- images: msrc21, fitted on train (276 images, list 3fd3d013), scored on test (256 images, "
    "list 768773b5)"
)


def outcome(folder, **rows):
    """Rows by name, each of some results."""
    found = Outcome()
    for name, results in rows.items():
        row = found.rows[name] = RowOutcome()
        for number, result in enumerate(results):
            row.results.append(folder / name / str(number))
            row.results[-1].mkdir(parents=True)
            (row.results[-1] / "results.json").write_text(json.dumps(result))
    return found


def changed(*path_and_value):
    *path, last, value = path_and_value
    result = node = copy.deepcopy(RESULT)
    for each in path:
        node = node[each]
    node[last] = value
    return result


def test_rows_of_the_same_images_share_a_line(tmp_path, caplog):
    assert scored_images(outcome(tmp_path, a=[RESULT] * 2, b=[RESULT])) == [SAID]
    assert not caplog.text


@pytest.mark.parametrize(
    "change",
    [
        ("dataset", "splits", "score", "val"),
        ("dataset", "images", "score", 59),
        ("dataset", "list_checksums", "score", "other"),
        ("dataset", "list_checksums", "fit", "other"),
        ("dataset", "fit_name", "coco27"),
        ("content", "score", "pixels", "other"),
        ("content", "fit", "label_files", "other"),
    ],
)
def test_rows_of_other_images_are_told_of(change, tmp_path, caplog):
    lines = scored_images(outcome(tmp_path, a=[RESULT, RESULT], b=[changed(*change)], c=[RESULT]))
    assert lines[0] == f"{SAID}: 'a', 'c'" and lines[1].endswith(": 'b'") and len(lines) == 3
    assert lines[2].startswith("- **rows are scored on 2 different sets of images or labels of msr")
    assert caplog.text.count("not comparable with one another") == 1


def test_two_data_sets_of_one_table_are_two_lines(tmp_path, caplog):
    other = changed("dataset", "name", "coco27")
    other["dataset"]["fit_name"] = "coco27"
    first, second = scored_images(outcome(tmp_path, a=[RESULT, other], b=[other]))
    assert first == SAID and second == SAID.replace("msrc21", "coco27") and not caplog.text


def test_what_was_fitted_on_another_set_is_named(tmp_path):
    (line,) = scored_images(outcome(tmp_path, a=[changed("dataset", "fit_name", "coco27")]))
    assert line.startswith("- images: msrc21, fitted on train of coco27 (276 images, ")


def test_results_without_images_are_left_out(tmp_path):
    assert scored_images(outcome(tmp_path, a=[{"kind": "time"}], b=[])) == []

"""A table says on which images its rows were scored, and when not all on the same."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("vissl")

from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.scored_images import scored_images

RESULT = {
    "kind": "linear",
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
    if change[0] == "dataset":
        assert lines[0] == f"{SAID}: 'a', 'c'" and lines[1].endswith(": 'b'") and len(lines) == 3
    else:
        assert lines[0] == SAID and len(lines) == 2
    assert lines[-1].startswith("- **rows are of different images or labels of msrc21, and not")
    assert caplog.text.count("not comparable with one another") == 1


@pytest.mark.parametrize(
    "more",
    [{"arguments": {"fraction": 0.1}}, {"kind": "finetune"}, {"protocol": {"hash": "other"}}],
)
def test_what_a_fraction_or_another_evaluation_is_fitted_to_may_differ(more, tmp_path, caplog):
    few = {**changed("dataset", "list_checksums", "fit", "few"), **more}
    assert len(scored_images(outcome(tmp_path, a=[RESULT], b=[few]))) == 2 and not caplog.text


def test_results_of_earlier_versions_are_taken_for_those_of_the_others(tmp_path, caplog):
    older = {name: value for name, value in RESULT.items() if name != "content"}
    assert scored_images(outcome(tmp_path, a=[RESULT], b=[older], c=[older])) == [SAID]
    assert not caplog.text


def test_two_data_sets_of_one_table_are_two_lines(tmp_path, caplog):
    other = changed("dataset", "name", "coco27")
    other["dataset"]["fit_name"] = "coco27"
    first, second = scored_images(outcome(tmp_path, a=[RESULT, other], b=[other]))
    assert first == f"{SAID}: 'a'" and not caplog.text
    assert second == f"{SAID.replace('msrc21', 'coco27')}: 'a', 'b'"


def test_a_table_that_is_written_again_tells_the_log_once(tmp_path, caplog):
    found = outcome(tmp_path, a=[RESULT], b=[changed("dataset", "splits", "score", "val")])
    assert scored_images(found) == scored_images(found)
    assert caplog.text.count("not comparable with one another") == len(found.warnings) == 1


def test_what_was_fitted_on_another_set_is_named(tmp_path):
    (line,) = scored_images(outcome(tmp_path, a=[changed("dataset", "fit_name", "coco27")]))
    assert line.startswith("- images: msrc21, fitted on train of coco27 (276 images, ")


@pytest.mark.parametrize("part", ["splits", "images", "list_checksums"])
@pytest.mark.parametrize("value", [None, 3, [1], "x"])
def test_results_that_were_changed_end_nothing(part, value, tmp_path):
    assert scored_images(outcome(tmp_path, a=[changed("dataset", part, value)]))


def test_results_without_images_are_left_out(tmp_path):
    assert scored_images(outcome(tmp_path, a=[{"kind": "time"}], b=[])) == []

from __future__ import annotations

import re

import pytest

from vice.experiments.demo.scores import class_table, percent, score_table, verdict


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr.*?</tr>", html, re.S)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows if "<td" in row]


SCORES = {
    "trained": {
        "linear": {"miou": 0.5, "accuracy": 0.6, "iou_per_class": [0.4, 0.6]},
        "clusters": {"miou": 0.3, "accuracy": 0.4, "iou_per_class": {"b": 0.1}},
    },
    "random": {
        "linear": {"miou": 0.25, "accuracy": 0.7},
        "clusters": {"miou": 0.31, "accuracy": float("nan")},
    },
    "lab": {"clusters": {"miou": 0.1, "accuracy": 0.2}},
}


def test_percent() -> None:
    assert percent(0.12345) == "12.3" and percent(1) == "100.0" and percent(0.0) == "0.0"
    assert percent(None) == percent(float("nan")) == "-"


def test_the_verdict_is_honest() -> None:
    (good, linear), (bad, clusters) = verdict(SCORES)
    assert good and "50.0" in linear and "+25.0" in linear and "25.0 %" in linear
    assert not bad and "-1.0" in clusters and "+20.0" in clusters and "Not above" in clusters


def test_more_clusters_than_classes_are_named_by_their_number() -> None:
    scores = {name: {"clusters_24": {"miou": 0.2, "accuracy": 0.3}} for name in ("trained", "lab")}
    assert "24 clusters" in score_table(scores)
    assert verdict(scores)[0][1].startswith("24 clusters: 20.0 % mIoU")


def test_no_verdict_without_something_to_compare() -> None:
    assert verdict({"trained": SCORES["trained"]}) == []
    assert verdict({"random": SCORES["random"]}) == []
    assert verdict({}) == []


def test_score_table_has_each_number_in_its_place() -> None:
    assert cells(score_table(SCORES)) == [
        ["50.0", "60.0", "30.0", "40.0"],
        ["25.0", "70.0", "31.0", "-"],
        ["-", "-", "10.0", "20.0"],
    ]


def test_class_table_takes_lists_and_mappings() -> None:
    assert cells(class_table(SCORES, ["a", "b"])) == [["40.0", "-"], ["60.0", "10.0"]]
    assert class_table({"trained": {"linear": {"miou": 0.1}}}, ["a"]) == ""
    with pytest.raises(ValueError, match="2 values for 3 classes"):
        class_table(SCORES, ["a", "b", "c"])

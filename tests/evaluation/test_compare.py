from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.forked import Forked
from vice.errors import UserError
from vice.evaluation.compare import differences, make_tables, row_names
from vice.evaluation.comparison_page import to_html, to_markdown
from vice.evaluation.paired import pair_tables, pairing_sections
from vice.evaluation.scored_folders import read_results

ROOT = Path(__file__).resolve().parents[2]


def linear(spec="run", seed=0, miou=0.5, **fields):
    return {
        "kind": "linear",
        "spec": spec,
        "seed": seed,
        "classes": ["a", "b"],
        "dataset": {
            "name": "msrc21",
            "splits": {"fit": "train", "score": "test"},
            "fit_name": "msrc21",
            "images": {"fit": 3, "score": 2},
            "list_checksums": {"fit": "f", "score": "s"},
        },
        "protocol": {
            "name": "native",
            "hash": "0123456789ab",
            "fields": {"iterations": 500, "matchings": ["greedy", "hungarian"], **fields},
        },
        "arguments": {"spec": spec, "seed": seed},
        "linear": {"miou": miou, "accuracy": 0.75},
    }


def clusters(**changes):
    result = linear(**changes)
    scores = {"miou": 0.25, "accuracy": None}
    result["kind"] = "clusters"
    result["clusters"] = {"21": {"greedy": scores, "hungarian": scores}}
    return result


def test_mean_and_deviation_over_seeds() -> None:
    values = [0.5, 0.53, 0.61]
    results = [linear(seed=seed, miou=value) for seed, value in enumerate(values)]
    text = to_markdown(make_tables([*results, linear("other", miou=0.1)]))
    mean, deviation = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    assert f"| run | 3 | {mean:.2f} ± {deviation:.2f} / 75.00 ± 0.00 |" in text
    assert "| other | 1 | 10.00 / 75.00 |" in text
    assert text.startswith("**Table 1. msrc21 test, linear, native (0123456789ab)**")


def test_results_that_are_older_than_a_field_share_the_table_of_its_default():
    old, new = linear("old"), linear("new", linear_pixels=200_000, linear_l2=1e-4)
    assert len(make_tables([old, new])) == 1
    (told,) = differences(make_tables([old, linear("new", linear_l2=0.5)]))
    assert "protocol.linear_l2 (None against 0.5)" in told


def test_other_settings_are_never_put_into_one_table() -> None:
    unlike = linear("other", iterations=12000)
    tables = make_tables([linear(), unlike, clusters()])
    assert len(tables) == 3
    (sentence,) = differences(tables)
    assert sentence == (
        "Table 1 and table 2 are not comparable, and not paired: protocol.iterations (500 against "
        "12000)."
    )
    assert sentence in to_markdown(tables) and sentence in to_html(tables)
    fewer = copy.deepcopy(linear("other"))
    fewer["dataset"]["images"]["score"] = 1
    assert "images.score (2 against 1)" in differences(make_tables([linear(), fewer]))[0]


def test_what_does_not_matter_keeps_results_together() -> None:
    here, there = linear(), linear("other")
    here["arguments"] |= {"out_dir": "a", "device": "cpu", "workers": 0, "cache_bytes": 0}
    there["arguments"] |= {"out_dir": "b", "device": "cuda", "workers": 4, "cache_bytes": 9}
    assert len(make_tables([here, there])) == 1


def test_what_is_asked_for_beside_the_protocol_keeps_results_apart() -> None:
    here, there = linear(), linear("other")
    there["arguments"]["options"] = {"optim_wrapper.optimizer.lr": 0.5}
    (sentence,) = differences(make_tables([here, there]))
    assert "options (None against {'optim_wrapper.optimizer.lr': 0.5})" in sentence


def test_label_sets_of_one_name_are_told_apart() -> None:
    nineteen, other = linear(), linear("other")
    nineteen["dataset"]["name"], other["dataset"]["name"] = "cityscapes19", "cityscapes27"
    (sentence,) = differences(make_tables([nineteen, other]))
    assert "dataset (cityscapes19 against cityscapes27)" in sentence


def test_runs_of_several_training_seeds_share_a_row() -> None:
    runs = [linear(f"outputs/seed{i}", miou=0.5 + 0.1 * i) for i in range(2)]
    text = to_markdown(make_tables([*runs, linear("lab")], {"outputs/seed*": "ViCE"}))
    assert "| ViCE | 2 | 55.00 ± 7.07 / 75.00 ± 0.00 |" in text and "| lab | 1 |" in text


def test_clusters_and_missing_scores() -> None:
    text = to_markdown(make_tables([clusters()]))
    assert "| embedder | seeds | 21 greedy | 21 hungarian |" in text
    assert "| run | 1 | 25.00 / - | 25.00 / - |" in text


def test_the_same_result_twice_is_refused() -> None:
    with pytest.raises(UserError, match="run with seed 0 is there twice"):
        make_tables([linear(), linear()])


def test_html_is_escaped() -> None:
    page = to_html(make_tables([linear("<script>")]))
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_command_line(tmp_path) -> None:
    for name, content in (("a", linear()), ("b", linear("other"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    tool = [sys.executable, str(ROOT / "tools" / "compare.py")]
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    shown = subprocess.run([*tool, *folders], capture_output=True, text=True, check=True).stdout
    tables = make_tables(read_results(folders))
    assert shown == to_markdown(tables, pairing_sections(pair_tables(tables)))
    assert "Table 1: run, other cannot be paired, without per_image.npz in" in shown
    assert Forked([*tool[1:], *folders, "--out", str(tmp_path / "t.html")]).wait().returncode == 0
    assert "<table>" in (tmp_path / "t.html").read_text()
    assert Forked([*tool[1:], str(tmp_path)]).wait().stdout == shown
    done = Forked([*tool[1:], str(ROOT / "tools")]).wait()
    assert done.returncode == 2 and "holds no results.json" in done.stderr
    (tmp_path / "a" / "results.json").write_text('{"kind": "li')
    done = Forked([*tool[1:], *folders]).wait()
    assert done.returncode == 2 and "is broken" in done.stderr


def test_folders_that_cannot_be_told_apart_are_named(tmp_path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        content = linear(seed=0 if name == "c" else ord(name))
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "results.json").write_text(json.dumps(linear(seed=ord("b"), miou=0.6)))
    folders = [tmp_path / name for name in "abcd"]
    with pytest.raises(UserError, match=f"{folders[1]} and {folders[3]} cannot be told apart"):
        make_tables(read_results(folders))
    with pytest.raises(UserError, match=f"{folders[0]} is named twice"):
        make_tables(read_results([folders[0], tmp_path / "b" / ".." / "a"]))


def test_tables_say_over_how_many_classes_and_what_a_matching_is() -> None:
    result = clusters()
    for entry, values in zip(result["clusters"]["21"].values(), ([1, 0], [1, None]), strict=True):
        entry["iou_per_class"] = dict(zip("ab", values, strict=True))
    tables = make_tables([result])
    text, page = to_markdown(tables), to_html(tables)
    for shown in (text, page):
        assert "mean over 1 of 2 classes" in shown
        assert "Each cluster gets the class" in shown and "paired one to one" in shown
    assert 'name="viewport"' in page and '<p class="hint">' in page


def test_scores_that_stand_in_two_folders_alike_are_counted_once(caplog) -> None:
    caplog.set_level("INFO")
    first, more = ({**clusters(), "folder": name} for name in ("first", "more"))
    more["clusters"] = {**first["clusters"], "45": first["clusters"]["21"]}
    (table,) = make_tables([first, more])
    assert {name: len(scores) for name, scores in table.rows["run"].items()} == {
        "21 greedy": 1, "21 hungarian": 1, "45 greedy": 1, "45 hungarian": 1,
    }  # fmt: skip
    assert caplog.text.count("more has the scores of first once more") == 1
    other = {**copy.deepcopy(first), "folder": "other"}
    other["clusters"]["21"]["greedy"]["miou"] = 0.26
    with pytest.raises(UserError, match="first and other cannot be told apart"):
        make_tables([first, other])


def test_rows_that_hold_nothing_are_refused() -> None:
    for text in ("ViCE", "ViCE=", "=lab"):
        with pytest.raises(UserError, match="must be NAME=PATTERN"):
            row_names([text])
    with pytest.raises(UserError, match="is in row a already"):
        row_names(["a=lab", "b=lab"])
    with pytest.raises(UserError, match="a=la: no embedder has such a name; there are lab"):
        make_tables([linear("lab")], row_names(["a=la"]))


CONTENT = {
    "fit": {"pixels": "a" * 64, "label_files": "b" * 64},
    "score": {"pixels": "c" * 64, "label_files": "d" * 64},
}


@pytest.mark.parametrize("role", CONTENT)
@pytest.mark.parametrize("entry", CONTENT["fit"])
def test_other_images_or_labels_of_the_same_names_are_another_table(role, entry) -> None:
    one, other = ({**linear(spec), "content": copy.deepcopy(CONTENT)} for spec in ("a", "b"))
    assert len(make_tables([one, other])) == 1
    other["content"][role][entry] = "e" * 64
    first, second = make_tables([one, other])
    (said,) = differences([first, second])
    name = "pixels of images" if entry == "pixels" else "label files"
    assert f"{name} ({role}) ({CONTENT[role][entry][:12]} against eeeeeeeeeeee)" in said
    text = to_markdown([first, second])
    assert "**Table 2." in text and said in text


def test_results_that_do_not_say_what_they_are_of_stay_where_that_is_clear(caplog) -> None:
    older, said = linear("older"), {**linear("a"), "content": CONTENT}
    assert [sorted(table.rows) for table in make_tables([older, said])] == [["a", "older"]]
    assert "1 results are of an earlier version and do not say what" in caplog.text
    other = {**linear("b"), "content": {**CONTENT, "score": {"pixels": "e"}}}
    tables = make_tables([older, said, other])
    assert [list(table.rows) for table in tables] == [["older"], ["a"], ["b"]]


@pytest.mark.parametrize(
    ("spec", "drawn"),
    [
        ("run", False), ("timm:resnet18@f.pth", False), ("torchvision:resnet18", False),
        ("lab", False), ("random:resnet18-fpn-8", True), ("random:run", True),
        ("imagenet:resnet18-fpn-8", True), ("module:make", True), ("a.module:make", True),
    ],
)  # fmt: skip
def test_seeds_of_one_row_are_of_one_model(spec, drawn) -> None:
    one, other = (
        {**linear(spec, seed), "model": {"digest": str(seed)}, "folder": f"out/{seed}"}
        for seed in (0, 1)
    )
    if drawn:
        assert len(make_tables([one, other])[0].rows[spec]["linear"]) == 2
        return
    with pytest.raises(UserError, match="had other weights in out/1 than in out/0, and they are"):
        make_tables([one, other])
    # Under a name that a person gives, too: that is for several specs, and not for several files.
    with pytest.raises(UserError, match="had other weights"):
        make_tables([one, other], {spec: "mine"})
    other["model"] = one["model"]
    assert len(make_tables([one, other])) == 1


def test_code_that_gave_other_weights_is_told_of_once(caplog) -> None:
    of = [
        {**linear("code:make", seed), "model": {"digest": str(seed)}, "folder": f"out/{seed}"}
        for seed in range(3)
    ]
    make_tables(of)
    (record,) = [each for each in caplog.records if "had other weights" in each.getMessage()]
    assert "code:make had other weights in out/1 than in out/0" in record.getMessage()
    # What earlier versions had for all that has no weights tells nothing.
    nothing = hashlib.sha256().hexdigest()
    caplog.clear()
    make_tables([of[0], {**of[1], "model": {"digest": nothing}}])
    assert "had other weights" not in caplog.text
    # Under one seed they are not even two of them, whether or not their scores agree.
    for change in ({"miou": 0.25}, {}):
        other = {**linear("code:make", 0, **change), "model": {"digest": "other"}}
        with pytest.raises(UserError, match=r"in out/9 than in out/0, and they are no two seeds"):
            make_tables([of[0], {**other, "folder": "out/9"}])
    assert "had other weights" not in caplog.text


def test_a_share_of_the_images_is_in_the_title() -> None:
    whole, part = linear(), linear("other")
    whole["arguments"] |= {"fraction": 1.0, "subset_seed": 0}
    part["arguments"] |= {"fraction": 0.01, "subset_seed": 3}
    titles = [table.title for table in make_tables([whole, part])]
    assert "its images" not in titles[0]
    assert titles[1].endswith(", 0.01 of its images (subset 3)")


def test_clusters_of_fewer_vectors_than_the_protocol_asks_for_are_another_table() -> None:
    one, other = clusters(), clusters(spec="other")
    other["clusters"] = {"21": {**other["clusters"]["21"], "kmeans": {"beyond_memory": 5}}}
    (said,) = differences(make_tables([one, other]))
    assert "k-means vectors beyond the memory limit (None against {'21': 5})" in said


def test_a_table_is_headed_by_what_was_changed_of_its_protocol() -> None:
    result = linear()
    result["protocol"]["title"] = "native, linear_optimizer=lbfgs (0123456789ab)"
    (table,) = make_tables([result])
    assert table.title == "msrc21 test, linear, native, linear_optimizer=lbfgs (0123456789ab)"

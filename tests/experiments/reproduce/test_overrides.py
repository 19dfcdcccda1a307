"""Overrides that no training takes end a call before anything is written; others keep apart."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("vissl")

from vice.errors import UserError
from vice.experiments.reproduce import runner
from vice.experiments.reproduce.overrides import check_overrides, check_trainings
from vice.experiments.reproduce.pairing import write_pairing
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.report import (
    pairing_file,
    picture_file,
    report_file,
    write_report,
)
from vice.experiments.reproduce.tables import comes_along, load_scale, load_table, select_rows

TOOL = Path(__file__).resolve().parents[3] / "tools" / "reproduce.py"
#: What no row takes, and a part of what is said about it.
REFUSED = {
    "config.NOSUCH=1": "config key 'config.NOSUCH' does not exist",
    "config.OPTIMIZER.num_epoch=1": "did you mean config.OPTIMIZER.num_epochs?",
    "config.VICE.VIEWS.size=-4": "config.VICE.VIEWS.size=-4: must be",
    "config.OPTIMIZER.num_epochs=many": "config.OPTIMIZER.num_epochs='many': must be",
    "config.MODEL.TRUNK.VICE.decoder=fpm": "fpm",
    "config.VICE.VIEWS.scale=[1": "config.VICE.VIEWS.scale=[1: cannot be read",
    "nonsense": "nonsense: overrides of trainings must be KEY=VALUE",
    "main": "a call runs one table",
    "config=vice/demo": "each row has its own",
    "config.SEED_VALUE=1": "--seeds says",
    "config.DATA.TRAIN.DATA_PATHS=[/x]": "--dataset says",
    "config.CHECKPOINT.DIR=/x": "--out says",
}
#: What every row takes, and what is for the methods of some.
TAKEN = ("config.LOG_FREQUENCY=3", "config.VICE.METHOD.over_clusters=9", "+config.VICE.TRACKING={}")


def call(monkeypatch, capsys, *words):
    """Exit status, and what was said of errors, of the command in this process."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    return end.value.code or 0, capsys.readouterr()


def plan_of(out, *overrides, scale="tiny", **more):
    return ReproducePlan(out, load_scale(scale), overrides=overrides, **more)


@pytest.mark.parametrize("override", REFUSED)
def test_what_no_training_takes_is_refused_before_anything_is_written(
    override, stripes, tmp_path, monkeypatch, capsys
):
    plan = plan_of(tmp_path, datasets={"*": str(stripes)})
    table = report_file(load_table("scratch"), plan)
    for file in (table, table.with_name(f"{table.stem}-paired.md")):
        file.parent.mkdir(exist_ok=True)
        file.write_text("finished")
    before = sorted(tmp_path.rglob("*"))
    status, said = call(
        monkeypatch, capsys, "scratch", "--scale", "tiny", "--dataset", stripes, "--out", tmp_path,
        "--device", "cpu", override,
    )  # fmt: skip
    assert status == 2
    (line,) = [each for each in said.err.splitlines() if each.startswith("error: ")]
    assert REFUSED[override] in line and "cache_dir" not in line
    assert sorted(tmp_path.rglob("*")) == before
    assert {file.read_text() for file in before if file.is_file()} == {"finished"}
    plan = plan_of(tmp_path, override, datasets={"*": str(stripes)})
    with pytest.raises(UserError):
        runner.reproduce(load_table("scratch"), plan, lambda outcome: pytest.fail("written"))


@pytest.mark.parametrize("override", TAKEN)
def test_what_some_rows_take_is_not_refused(override, tmp_path):
    check_overrides([override])
    table = load_table("photographs")
    table = select_rows(table, ["PiCIE", "ViCE"])
    check_trainings(table, plan_of(tmp_path, override, scale="quick"))


def test_a_table_without_trainings_takes_no_overrides(tmp_path):
    with pytest.raises(UserError, match=r"^config.LOG_FREQUENCY=3: .* no row of frozen has one"):
        check_trainings(load_table("frozen"), plan_of(tmp_path, "config.LOG_FREQUENCY=3"))
    check_trainings(load_table("frozen"), plan_of(tmp_path))


def test_what_is_wrong_with_a_row_in_any_case_is_no_fault_of_overrides(tmp_path):
    """Masks of a saliency that are not there: the row says so, and the table stands."""
    table = select_rows(load_table("main"), ["MaskContrast*unsupervised*"])
    check_trainings(table, plan_of(tmp_path, "config.LOG_FREQUENCY=3"))


def test_tables_of_other_overrides_are_other_files(tmp_path):
    table = load_table("scratch")
    one, two = "config.OPTIMIZER.num_epochs=1", "config.VICE.LOSS.epsilon=0.06"
    where = [
        ((), ("config.LOG_FREQUENCY=3",), ("config.SLURM.PARTITION=gpu",)),
        ((one,), (f"+{one}",), ("config.OPTIMIZER.num_epochs=7", one, "config.LOG_FREQUENCY=3")),
        ((one, two), (two, one)),
        ((two,),),
        (("config.OPTIMIZER.num_epochs=2",),),
    ]
    files = [{report_file(table, plan_of(tmp_path, *given)) for given in alike} for alike in where]
    assert [len(each) for each in files] == [1] * 5 and len(set.union(*files)) == 5
    assert files[0] == {tmp_path / "tables" / "scratch-tiny.md"}
    assert all("-overrides-" in file.name for each in files[1:] for file in each)


@pytest.mark.parametrize("overrides", [(), ("config.OPTIMIZER.num_epochs=1",)])
def test_no_differences_of_another_table_stay_beside_it(overrides, tmp_path):
    table, plan = load_table("scratch"), plan_of(tmp_path, *overrides)
    outcome = runner.Outcome({row.name: runner.RowOutcome() for row in table.rows})
    for write, of in (
        (write_report, pairing_file),
        (write_pairing, pairing_file),
        (write_report, picture_file),
    ):
        file = of(table, plan)
        file.parent.mkdir(exist_ok=True)
        file.write_text("of another table")
        write(table, outcome, plan)
        assert not file.exists()
    assert report_file(table, plan).is_file()


def test_folders_of_one_name_have_tables_of_their_own(tmp_path, monkeypatch):
    table = load_table("scratch")
    monkeypatch.chdir(tmp_path)

    def file(dataset):
        return report_file(table, plan_of(tmp_path, datasets={"*": dataset})).name

    assert file("msrc21") == "scratch-tiny-msrc21.md"
    assert re.fullmatch(r"scratch-tiny-photos-[0-9a-f]{6}\.md", file("a/photos"))
    assert file("a/photos") == file(str(tmp_path / "a" / "photos")) == file("./a/b/../photos/")
    assert file("a/photos") != file("b/photos")


def test_a_baseline_that_nobody_named_is_said_to_come_along(
    stripes, tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.setattr(runner, "_train", lambda *asked: None)
    monkeypatch.setattr(runner, "_score", lambda *asked: None)
    for rows, said in ((["half*"], True), (["half*", "ViCE"], False), ([], False)):
        caplog.clear()
        words = [word for row in rows for word in ("--row", row)]
        arguments = ("photographs", "--scale", "quick", "--dataset", stripes, "--out", tmp_path)
        with caplog.at_level("INFO"):
            status, _ = call(monkeypatch, capsys, *arguments, *words, "--device", "cpu")
        lines = [each for each in caplog.messages if "comes along: " in each]
        assert status == 0 and len(lines) == said
        if said:
            assert lines == caplog.messages[:1] and lines[0].startswith("ViCE comes along: the ot")


@pytest.mark.parametrize("name", ["photographs", "methods", "hyperparameters", "scratch"])
def test_what_comes_along_is_what_is_kept_unasked(name):
    table = load_table(name)
    for row in table.rows:
        kept = {each.name for each in select_rows(table, [row.name]).rows} - {row.name}
        assert kept == set(filter(None, [comes_along(table, [row.name])]))
    assert comes_along(table, []) == ""


def test_help_tells_of_the_baseline(monkeypatch, capsys):
    status, said = call(monkeypatch, capsys, "--help")
    assert status == 0 and "and the table's baseline" in " ".join(said.out.split())

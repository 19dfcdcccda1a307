"""The judge of hostile cases sees each kind of finding."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.hostile import judge as judging
from tests.hostile.case import MARKER, Action, Case
from tests.hostile.judge import judge
from vice.errors import UserError


def refuse(message="photo.jpg: broken"):
    raise UserError(message)


def verdict(tmp_path, run, expected="either", **options):
    (tmp_path / "case").parent.mkdir(exist_ok=True)

    def make(folder: Path, rng) -> Action:
        (folder / "mine.txt").write_text("precious")
        return Action(run=lambda: run(folder), **options)

    return judge(Case("group", "name", make, expected), 0, tmp_path / "case").kind


def remove(folder):
    (folder / "mine.txt").unlink()
    refuse()


def touch(folder):
    (folder / MARKER).touch()


@pytest.mark.parametrize(
    ("run", "expected", "options", "kind"),
    [
        (lambda folder: 1, "worked", {}, "worked"),
        (lambda folder: refuse(), "refused", {"names": ("photo.jpg",)}, "refused"),
        (lambda folder: refuse(), "worked", {}, "wrong"),
        (lambda folder: 1, "refused", {}, "wrong"),
        (lambda folder: 1, "either", {"check": lambda result: "not two"}, "wrong"),
        (lambda folder: refuse("no"), "refused", {"names": ("photo.jpg",)}, "no message"),
        (lambda folder: 1 / 0, "either", {}, "traceback"),
        (remove, "either", {}, "lost something"),
        (touch, "either", {}, "code ran"),
        (lambda folder: bytearray(2**33), "either", {}, "traceback"),
    ],
)
def test_kinds(tmp_path, run, expected, options, kind):
    assert verdict(tmp_path, run, expected, **options) == kind


def test_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "SECONDS", 0.2)
    assert verdict(tmp_path, lambda folder: time.sleep(20)) == "hang"

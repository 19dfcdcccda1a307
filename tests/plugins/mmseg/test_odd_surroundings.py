"""Evaluations on odd names, with secrets in the environment, and on a disk that is full."""

from __future__ import annotations

import json
import os

import pytest

from tests.helpers.canary import CANARIES, CANARY, leaks
from tests.hostile.full_disks import limit
from vice.errors import UserError
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.finetune import finetune

from .helpers import LINEAR

NAMES = (b"stra\xdfe", b"a\nb", b"\x1b[31m", b"x" * 245, b"$q'$_{")


def test_names_that_are_not_utf_8_and_secrets(tiny, make_folder, tmp_path, monkeypatch, capfd):
    root = make_folder(os.fsdecode(b"\xe4\nx"))
    for kind in ("images", "labels"):
        for number, name in enumerate(NAMES):
            path = next((root / kind / "val").glob(f"{number:02d}.*"))
            path.rename(path.with_name(os.fsdecode(name) + path.suffix))
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / os.fsdecode(b"out\xfc")
    result = evaluate_linear(tiny, root, out, **{**LINEAR, "log_level": "INFO"}, max_maps=99)
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == result
    assert sorted(os.fsencode(path.stem) for path in (out / "maps/linear").iterdir()) == sorted(
        NAMES
    )
    assert leaks(out) == []
    said = "".join(capfd.readouterr())
    assert CANARY not in said and "Traceback" not in said


#: Of an evaluation, by which its folder is known.
EARLIER = '{"kind": "linear"}\n'


@pytest.mark.parametrize("evaluate", [evaluate_linear, finetune])
def test_a_full_disk_is_named_and_earlier_results_stay(
    evaluate, tiny, make_folder, tmp_path, capfd
):
    root, out = make_folder(), tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text(EARLIER)
    with limit(2_000), pytest.raises(UserError, match="cannot write .*; free some space") as error:
        evaluate(tiny, root, out, **LINEAR)
    assert str(out) in str(error.value)
    assert (out / "results.json").read_text() == EARLIER
    assert "Traceback" not in "".join(capfd.readouterr())

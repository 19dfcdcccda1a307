"""A training as a process of its own: its messages and its progress."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.helpers.terminal import at_a_terminal
from vice.errors import UserError
from vice.experiments import train as training

pytest.importorskip("vissl")


def test_what_training_refuses_is_one_message(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty") as error:
        training.train("vice/folder", tmp_path / "empty", tmp_path / "run")
    assert "\n" not in str(error.value) and not str(error.value).startswith("error:")


@pytest.mark.parametrize("key", ["config.CHECKPOINT.DIR", "+config.DATA.TRAIN.DATA_PATHS"])
def test_what_the_arguments_say_is_no_override(key, tmp_path):
    with pytest.raises(UserError, match="of (its|their) own here: leave this out"):
        training.train("vice/folder", tmp_path, tmp_path / "run", [f"{key}=x"])


def test_what_a_training_tells_its_terminal_is_passed_on(capsys):
    told = "10:11:12 training: step 25 of 480, epoch 1 of 3, loss 3.85, 0:05:30 left\n"
    script = f"import sys; print('out'); sys.stderr.write({told!r} + 'oops'); sys.exit(3)"
    assert training._follow([sys.executable, "-c", script]) == (3, "oops")
    assert capsys.readouterr() == ("", told)


#: Ends 0.3 s after it was asked to, as a training ends its step, and says what has reached it.
_SAVING = """
import signal, sys, time
asked = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: asked.append(number))
print("10:11:12 ready", file=sys.stderr, flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.3)
open(sys.argv[1], "w").write("saved")
print("stopped by SIGTERM, everything is saved", file=sys.stderr)
sys.exit(75)
"""
_PARENT = """
import sys
from vice.cli import run
from vice.experiments.train import _follow
run(lambda: _follow([sys.executable, "-c", {saving!r}, {file!r}])[0])
"""


@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGINT, True),
        (signal.SIGINT, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, True),
    ],
)
def test_who_stops_a_training_waits_until_it_is_saved(tmp_path, number, group):
    """As the demo and the tables do; a terminal tells both processes, `kill` only one."""
    script = _PARENT.format(saving=_SAVING, file=str(tmp_path / "saved"))
    process = at_a_terminal([sys.executable, "-c", script])
    assert "ready" in process.stderr.readline()
    (os.killpg if group else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert (tmp_path / "saved").exists()
    assert process.returncode == (130 if number == signal.SIGINT else 75)
    name = signal.Signals(number).name
    assert said == (f"stopped by {name} in a training: it is saved, the same command goes on\n")


def test_a_configuration_is_read_back_as_plain_yaml(tmp_path):
    file = tmp_path / "train_config.yaml"
    assert training.read_config(tmp_path) == {}
    plain = {"a": "${oc.env:HOME}", "_target_": "os.system"}
    file.write_text("VICE: {a: '${oc.env:HOME}', _target_: os.system}\n")
    assert training.read_config(tmp_path)["VICE"] == plain
    for text in ("!!python/object/apply:os.system ['true']", "[1]", "a: [", "\x00", "- &a [*a]"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"train_config\.yaml: "):
            training.read_config(tmp_path)

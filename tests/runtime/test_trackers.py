"""Trackers of experiments: what they are sent, and that they never end a training."""

from __future__ import annotations

import importlib.util
import json
import random

import numpy as np
import pytest

from vice.errors import UserError
from vice.runtime import trackers
from vice.runtime.trackers import Tracker, check_trackers, make_trackers


class Recorded(Tracker):
    name = "wandb"

    def _begin(self, folder, target, config):
        self.sent, self.config = [], config
        random.random()
        np.random.rand()
        if target == "broken":
            raise OSError("no network")

    def _send(self, values, step):
        self.sent.append((step, values))
        if step == 3:
            raise RuntimeError("gone")

    def _send_image(self, name, picture, step):
        self.sent.append((step, name, picture.shape))

    def _end(self):
        self.sent.append("end")


def test_scalars_of_a_step_are_sent_together(tmp_path):
    tracker = Recorded(tmp_path, "x", {"API_TOKEN": "secret", "a": 1})
    assert tracker.config == {"API_TOKEN": "***", "a": 1}
    for step in (1, 2):
        for name in ("a", "b"):
            tracker.add_scalar(name, step, step)
    tracker.add_image("p", np.zeros((2, 3, 3), np.uint8), 2)
    tracker.close()
    assert tracker.sent == [
        (1, {"a": 1.0, "b": 1.0}), (2, {"a": 2.0, "b": 2.0}), (2, "p", (2, 3, 3)), "end",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="HWC"):
        tracker.add_image("p", np.zeros((2, 3, 3), np.uint8), 2, dataformats="CHW")


def test_what_goes_wrong_is_told_once_and_ends_the_tracker_alone(tmp_path, caplog):
    random.seed(0)
    np.random.seed(0)
    wanted = random.Random(0).random(), np.random.RandomState(0).rand()
    broken = Recorded(tmp_path, "broken", {})
    gone = Recorded(tmp_path, "x", {})
    for tracker in (broken, gone):
        for step in range(6):
            tracker.add_scalar("a", step, step)
        tracker.close()
    assert broken.sent == [] and [sent[0] for sent in gone.sent] == [0, 1, 2, 3]
    said = [record.message for record in caplog.records]
    assert said == [
        "wandb: OSError: no network. Training goes on without it",
        "wandb: RuntimeError: gone. Training goes on without it",
    ]
    assert (random.random(), np.random.rand()) == wanted


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    check_trackers({"wandb": None, "mlflow": None})
    with pytest.raises(UserError, match=r"by mlflow needs mlflow-skinny: pip install mlfl"):
        check_trackers({"wandb": None, "mlflow": "x"})


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_real_ones_offline(name, tmp_path, monkeypatch):
    """Two processes' worth: begun, and gone on with under the same number."""
    if importlib.util.find_spec(trackers.PACKAGES[name][0]) is None:
        pytest.skip(f"{name} is not installed; it is no part of the closure")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    numbers = []
    for start in (0, 2):
        (tracker,) = make_trackers(
            {"wandb": None, "mlflow": None, name: str(tmp_path / "store")}
            if name == "mlflow" else {"mlflow": None, "wandb": "project"},
            tmp_path, {"a": {"b": [1, None]}},
        )  # fmt: skip
        for step in (start, start + 1):
            tracker.add_scalar("Health/loss", 1 / (1 + step), step)
        tracker.add_image("Pictures/embedding", np.zeros((4, 6, 3), np.uint8), start)
        tracker.close()
        assert tracker._alive
        numbers.append(json.loads((tmp_path / "tracking.json").read_text())[name])
    assert numbers[0] == numbers[1]
    if name == "mlflow":
        history = tracker._client.get_metric_history(numbers[0], "Health/loss")
        assert [(each.step, each.value) for each in history] == [
            (step, pytest.approx(1 / (1 + step))) for step in range(4)
        ]
        assert tracker._client.get_run(numbers[0]).info.status == "FINISHED"
    else:
        assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2

"""What a table's training has cost, over all the calls that it took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vice.errors import UserError
from vice.experiments.reproduce import trainings
from vice.experiments.reproduce.plan import ReproducePlan, Run
from vice.experiments.reproduce.tables import load_scale
from vice.runtime.preemption import Preempted

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


@pytest.mark.parametrize("stop", [Preempted("saved"), KeyboardInterrupt(), RuntimeError("crashed"),
                                  UserError("disk full")])  # fmt: skip
def test_calls_that_were_stopped_count(tmp_path, monkeypatch, stop):
    """The next call goes on with what they computed, so what they took belongs to the training."""
    ends = [stop, None]
    folder, asked = tmp_path / "run", ReproducePlan(tmp_path, load_scale("tiny"), device="cpu")

    def train(config: str, images: Path, folder: Path, overrides: tuple[str, ...]) -> None:
        folder.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", BUSY], check=True)
        end = ends.pop(0)
        if end is not None:
            raise end

    monkeypatch.setattr(trainings, "train", train)
    run = Run("vice/folder", (), 0, {})
    with pytest.raises(type(stop)):
        trainings.ensure_trained(run, folder, tmp_path, asked)
    first = trainings.training_seconds(folder)
    assert first["processor_seconds"] >= 0.2 and first["seconds"] >= 0.2
    trainings.ensure_trained(run, folder, tmp_path, asked)
    both = trainings.training_seconds(folder)
    assert both["processor_seconds"] >= first["processor_seconds"] + 0.2
    assert both["seconds"] >= first["seconds"] + 0.2


def test_a_training_that_left_no_folder_leaves_no_record(tmp_path, monkeypatch):
    def train(*given: object) -> None:
        raise UserError("no images")

    monkeypatch.setattr(trainings, "train", train)
    asked = ReproducePlan(tmp_path, load_scale("tiny"), device="cpu")
    with pytest.raises(UserError, match="no images"):
        trainings.ensure_trained(Run("vice/folder", (), 0, {}), tmp_path / "run", tmp_path, asked)
    assert not (tmp_path / "run").exists()

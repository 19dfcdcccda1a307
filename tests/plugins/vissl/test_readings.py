"""A run keeps how its images are read: when it is stopped and goes on, and in what it leaves."""

from __future__ import annotations

import json

import numpy as np
import yaml

from tests.helpers.forked import Forked
from tests.helpers.tiffs import tiff
from vice.images import Reading
from vice.models.load import stored_reading

from .conftest import TINY


def _scenes(folder, seed, most):
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    every = []
    for number in range(4):
        blocks = rng.integers(0, most, (8, 9, 5)).repeat(8, 0).repeat(8, 1)
        samples = (blocks + rng.integers(0, 90, blocks.shape)).astype(np.uint16)
        (folder / f"{number}.tif").write_bytes(tiff(samples, 2, extra=(0, 0)))
        every.append(samples.reshape(-1, 5))
    return np.concatenate(every)


def _measured(run):
    settings = yaml.safe_load((run / "train_config.yaml").read_text())
    return Reading.of(settings["VICE"]["DATASET"]["measured"])


def test_a_run_that_goes_on_keeps_its_scale(tmp_path):
    values = _scenes(tmp_path / "scenes", 0, 3000)
    run, (config, *changes) = tmp_path / "run", TINY
    command = ["-m", "vice", "train", config.partition("/")[2], "--images", tmp_path / "scenes",
               "--scale", "p1,p99", "--bands", "4,3,2", "--out", run]  # fmt: skip
    first = Forked([*command, *changes], cwd=tmp_path).wait()
    assert first.returncode == 0, first.stderr
    reading = _measured(run)
    wanted = [np.quantile(values[:, band], [0.01, 0.99], method="inverted_cdf")
              for band in (3, 2, 1)]  # fmt: skip
    assert list(zip(reading.black, reading.white, strict=True)) == [tuple(w) for w in wanted]
    assert stored_reading(str(run)) == reading
    # As if it had been stopped before its last state, on a disk whose images have changed since.
    for path in (*run.glob("model_final_checkpoint*"), run / "vice.safetensors"):
        path.unlink()
    _scenes(tmp_path / "scenes", 1, 2000)
    again = Forked(["-m", "vice", "train", "--resume", "--out", run], cwd=tmp_path).wait()
    assert again.returncode == 0, again.stderr
    assert f"as those of the run in {run} are" in again.stderr
    assert _measured(run) == stored_reading(str(run)) == reading
    steps = [json.loads(line)["iteration"] for line in (run / "health.jsonl").open()]
    assert steps == sorted(set(steps))
    other = Forked([*command[:-4], "--bands", "1", "--out", run, *changes], cwd=tmp_path).wait()
    assert other.returncode == 2 and "DATASET.bands" in other.stderr
    assert _measured(run) == reading

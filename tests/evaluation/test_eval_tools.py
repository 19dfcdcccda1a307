from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.forked import Forked

pytest.importorskip("mmseg")
ROOT = Path(__file__).resolve().parents[2]


def call(tool, *arguments, **environment):
    """Runs a tool from another working directory, as a user may, in an interpreter of its own."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **environment,
        },
    )


def forked(tool, *arguments):
    """The same with the imports done before."""
    return Forked([ROOT / "tools" / tool, *arguments], cwd=Path("/")).wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(3):
            label = np.repeat(np.arange(2, dtype=np.uint8), 21)[None].repeat(30, 0)
            image = np.where(label[..., None] == 1, 200, 50) + rng.integers(0, 30, (30, 42, 3))
            Image.fromarray(image.astype(np.uint8)).save(root / "images" / split / f"{i}.png")
            Image.fromarray(label).save(root / "labels" / split / f"{i}.png")
    (root / "classes.txt").write_text("dark\nbright\n")
    return root


@pytest.mark.parametrize(
    "tool",
    [
        "eval_linear.py",
        "eval_cluster.py",
        "eval_retrieval.py",
        "eval_position.py",
        "eval_boundaries.py",
        "score.py",
        "score_masks.py",
    ],
)
def test_help_has_an_example_and_loads_no_framework(tool):
    done = call(tool, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and "example:" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vice.cli" in loaded and not loaded & {"torch", "mmengine", "mmseg"}


def test_clusters_from_the_command_line(folder, tmp_path):
    done = call(
        "eval_cluster.py", "lab", "--dataset", folder, "--out", tmp_path, "--clusters", 2, 3
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(
        "mIoU / accuracy in %: 2 clusters greedy 100.00 [100.00, 100.00] / 100.00 [100.00, 100.00] "
        "(mean over 2 of 2 classes), hung"
    )
    assert (tmp_path / "results.json").is_file()


def test_linear_from_the_command_line(folder, tmp_path):
    done = forked(
        "eval_linear.py", "random:resnet18-fpn-8", "--dataset", folder, "--out", tmp_path,
        "--iterations", 2, "--batch-size", 2, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("linear: mIoU / accuracy ")


def test_retrieval_from_the_command_line(folder, tmp_path):
    done = forked(
        "eval_retrieval.py", "lab", "--dataset", folder, "--out", tmp_path, "--device", "cpu",
        "--set", "size=32,32", "retrieval_patch=4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    # One row of patches lies across the border of the two classes.
    assert last.startswith("retrieval: mIoU / accuracy in %, by matching: none 99.7")
    assert (tmp_path / "results.json").is_file()


def test_position_from_the_command_line(folder, tmp_path):
    """A step of brightness half-way along x predicts 3/4 of its variance, and is all there is."""
    done = forked(
        "eval_position.py", "lab", "--dataset", folder, "--out", tmp_path, "--device", "cpu",
        "--clusters", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())["position"]
    assert found["pixels"] == {"fit": 3 * 30 * 42, "score": 3 * 30 * 42}
    before, after = found["before"], found["after"]
    assert before["r2"]["x"] == pytest.approx(0.75, abs=0.01)
    assert before["r2"]["y"] == pytest.approx(0, abs=0.01)
    assert before["linear"]["accuracy"] == 1 == before["clusters"]["2"]["greedy"]["accuracy"]
    assert after["r2"]["x"] == pytest.approx(0, abs=0.01)
    assert after["linear"]["accuracy"] < 0.6
    assert (
        "before: R² x 0.7" in done.stdout
        and "linear 100.00 [100.00, 100.00] / 100.00" in done.stdout
    )


def test_bad_input_is_one_line(folder, tmp_path):
    done = forked("eval_linear.py", tmp_path / "none", "--dataset", folder, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr and str(tmp_path / "none") in done.stderr


def test_a_checkpoint_that_is_not_there_is_told_before_images_are_looked_at(folder, tmp_path):
    tool = ROOT / "tools" / "eval_cluster.py"
    done = Forked([tool, tmp_path / "none", "--dataset", folder, "--out", tmp_path / "out"]).wait()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: checkpoint ")
    assert "does not exist" in done.stderr and "images" not in done.stderr

"""A tiny folder of images, and the real command line run on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import made_once
from tests.helpers.canary import CANARIES
from tests.helpers.forked import Forked
from tests.helpers.kills import LONG, undisturbed

REPO = Path(__file__).parents[3]
#: Of runs that are stopped and go on.
EPOCHS = 6

#: A run of seconds: two epochs of three steps with two images of two 48-pixel views.
TINY = [
    "config=vice/folder",
    "config.VICE.DATASET.min_images_per_epoch=0",
    "config.VICE.STANDARDIZE.mode=none",
    "config.VICE.VIEWS.num_views=2",
    "config.VICE.VIEWS.size=48",
    "config.VICE.SUPERPIXELS.region_size=10",
    "config.VICE.PROTOTYPES.num_prototypes=6",
    "config.VICE.PROTOTYPES.dim=8",
    "config.VICE.PROTOTYPES.freeze_iterations=2",
    "config.VICE.LOSS.queue_length=20",
    "config.VICE.LOSS.queue_start=3",
    "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=2",
    "config.DATA.NUM_DATALOADER_WORKERS=1",
    "config.OPTIMIZER.num_epochs=2",
    "config.MACHINE.DEVICE=cpu",
    # What a run comes to must not depend on what a probe finds.
    "config.MODEL.TRUNK.EXECUTION={precision:null,channels_last:false}",
]
#: A run that jobs on two nodes share, as `alone` does it on one machine.
LONGER = (
    *LONG,
    f"config.OPTIMIZER.num_epochs={EPOCHS}",
    "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=1",
    "config.DATA.NUM_DATALOADER_WORKERS=0",
)


def write_images(folder: Path, count: int = 6) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        blocks = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((90, 80), Image.Resampling.NEAREST).save(
            folder / f"{number}.png"
        )
    return folder


def overrides(images: Path, out: Path, *more: str) -> list[str]:
    return [
        *TINY,
        f"config.DATA.TRAIN.DATA_PATHS=[{images}]",
        f"config.CHECKPOINT.DIR={out}",
        *more,
    ]


def run_tool(
    arguments: list[str], cwd: Path, *, real_spawn: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs tools/run_distributed.py as a user does, from somewhere else."""
    command = [REPO / "tools" / "run_distributed.py", *arguments]
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return Forked(command, cwd=cwd, real_spawn=real_spawn, **settings, **CANARIES).wait()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "images", write_images)


@pytest.fixture(scope="session")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny configuration."""

    def train(out: Path) -> None:
        done = run_tool(overrides(images, out), cwd=out.parent)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        (out / "stdout.txt").write_text(done.stdout)
        (out / "stderr.txt").write_text(done.stderr)

    return made_once(tmp_path_factory, "trained", train)


@pytest.fixture(scope="session")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer training by two processes, left in peace."""
    return made_once(
        tmp_path_factory,
        "alone",
        lambda out: undisturbed(overrides(images, out), out, 2, EPOCHS),
    )

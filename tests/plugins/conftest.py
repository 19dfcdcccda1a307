"""What a training on two nodes leaves, for all that is done with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import slurm
from tests.jobs import SCRIPTS, finish, sbatch, wait_for
from tests.plugins.vissl.conftest import LONGER, overrides, write_images


def training_by_sbatch(
    environment: dict[str, str], images: Path, folder: Path
) -> tuple[str, Path, Path]:
    """A job on two nodes in the middle of its training; its number, run folder and log."""
    out, log = folder / "out", folder / "slurm" / "job.err"
    log.parent.mkdir()
    script = ["--nodes=2", SCRIPTS / "train.sbatch"]
    job = sbatch(environment, log, script, *overrides(images, out, *LONGER))
    wait_for((out / "model_phase1.torch").exists, folder)
    return job, out, log


@pytest.fixture(scope="session")
def requeued(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory):
    """Run folder and log of a job on two nodes that was stopped once, and queued again."""
    folder = tmp_path_factory.mktemp("requeued")
    images = write_images(folder / "images")
    job, out, log = training_by_sbatch(cluster, images, folder)
    slurm.call(cluster, "scancel", "--signal=USR1", job)
    finish(cluster, job, folder)
    return out, log

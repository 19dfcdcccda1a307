"""What a training on two nodes leaves, for all that is done with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import slurm
from tests.helpers.jobs import SCRIPTS, sbatch, start_again, wait_for_job, wait_for_state
from tests.plugins.vissl.conftest import LONGER, overrides, write_images


def training_by_sbatch(
    environment: dict[str, str], images: Path, folder: Path
) -> tuple[str, Path, Path]:
    """A job on two nodes in the middle of its training; its number, run folder and log."""
    out, log = folder / "out", folder / "slurm" / "job.err"
    log.parent.mkdir()
    script = ["--nodes=2", SCRIPTS / "train.sbatch"]
    job = sbatch(environment, log, script, *overrides(images, out, *LONGER))
    wait_for_job(environment, job, (out / "model_phase1.torch").exists, folder)
    return job, out, log


@pytest.fixture(scope="session")
def requeued(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory):
    """Run folder and log of a job on two nodes that was stopped once and lost a node later."""
    folder = tmp_path_factory.mktemp("requeued")
    images = write_images(folder / "images")
    job, out, log = training_by_sbatch(cluster, images, folder)
    slurm.call(cluster, "scancel", "--signal=USR1", job)
    start_again(cluster, job, folder)
    wait_for_job(cluster, job, (out / "model_phase3.torch").exists, folder)
    node = slurm.nodes(cluster)[1]
    slurm.take_down(cluster, node)
    wait_for_state(cluster, job, folder, "PENDING")
    slurm.bring_back(cluster, node)
    start_again(cluster, job, folder)
    wait_for_state(cluster, job, folder, "COMPLETED")
    return out, log

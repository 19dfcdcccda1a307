"""Where the ranks of a SLURM job meet, and runs that ``srun`` starts inside one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from vice.errors import UserError
from vice.runtime.launch import read_environment, step_port

logger = logging.getLogger(__name__)


def meeting_port(wanted: Any, job: str) -> int:
    """The port that the ranks of a job meet at: the wanted one, or one by the job's number."""
    return step_port(int(job), 0) if str(wanted) == "auto" else int(wanted)


def join_step(config: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Takes nodes and meeting point from the job step that ``srun`` started this process in.

    Does nothing outside of a step of several tasks, and where a meeting point is given.

    Args:
        config: VISSL's configuration.
        environment: Of this process.

    Raises:
        UserError: More than one task a node, or torchrun: VISSL starts the processes of a node.
    """
    processes = "config.DISTRIBUTED.NUM_PROC_PER_NODE for the processes of a node"
    if "TORCHELASTIC_RUN_ID" in environment:
        raise UserError(f"training starts its own processes: use no torchrun, but {processes}")
    if config.SLURM.USE_SLURM or config.DISTRIBUTED.RUN_ID != "auto":
        return
    process = read_environment(environment) if "SLURM_STEP_NUM_TASKS" in environment else None
    if process is None:
        return
    nodes = int(environment["SLURM_STEP_NUM_NODES"])
    if nodes != process.world_size:
        raise UserError(
            f"srun started {process.world_size} tasks on {nodes} nodes: use --ntasks-per-node=1, "
            f"and {processes}"
        )
    port = process.port if str(config.SLURM.PORT_ID) == "auto" else int(config.SLURM.PORT_ID)
    if int(config.DISTRIBUTED.NUM_NODES) not in (1, nodes):
        logger.warning(
            "config.DISTRIBUTED.NUM_NODES=%d, but srun started this on %d nodes: they are used",
            config.DISTRIBUTED.NUM_NODES, nodes,
        )  # fmt: skip
    config.DISTRIBUTED.NUM_NODES = nodes
    config.DISTRIBUTED.RUN_ID = f"{process.address}:{port}"

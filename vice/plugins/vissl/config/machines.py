"""Which processes run where: devices, processes a machine, machines."""

from __future__ import annotations

import logging
from typing import Any

import torch
from omegaconf import DictConfig

from vice.errors import UserError
from vice.runtime.device_names import check_device

logger = logging.getLogger(__name__)


AUTO = "auto"


def choose_device(config: DictConfig) -> None:
    """Replaces every ``auto`` by what this machine has.

    Raises:
        UserError: GPUs are asked for, and there are none or too few; or a job is submitted from a
            machine that cannot tell what its nodes have.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_slurm = bool(config.SLURM.USE_SLURM)
    if on_slurm:
        _check_nodes(config, gpus)
    if config.MACHINE.DEVICE == AUTO:
        config.MACHINE.DEVICE = "gpu" if gpus else "cpu"
    if config.MACHINE.DEVICE == "mps":
        check_device("mps", "config.MACHINE.DEVICE")
        logger.warning(
            "config.MACHINE.DEVICE=mps: VISSL trains on GPUs of CUDA or on the CPU; the CPU is "
            "taken (vice.load and the scoring tools do use mps)"
        )
        config.MACHINE.DEVICE = "cpu"
    gpu = config.MACHINE.DEVICE == "gpu"
    if config.DISTRIBUTED.NUM_PROC_PER_NODE == AUTO:
        config.DISTRIBUTED.NUM_PROC_PER_NODE = max(gpus, 1) if gpu else 1
    if gpu and not on_slurm and gpus < int(config.DISTRIBUTED.NUM_PROC_PER_NODE):
        raise UserError(
            f"{config.DISTRIBUTED.NUM_PROC_PER_NODE} GPUs are asked for, {gpus} found: set "
            f"config.DISTRIBUTED.NUM_PROC_PER_NODE={max(gpus, 1)}"
            + ("" if gpus else " config.MACHINE.DEVICE=cpu")
        )
    for section, key, value in (
        ("DISTRIBUTED", "BACKEND", "nccl" if gpu else "gloo"),
        ("config", "MULTI_PROCESSING_METHOD", "forkserver" if gpu else "fork"),
    ):
        node = config if section == "config" else config[section]
        if node[key] == AUTO:
            node[key] = value
    if not gpu and config.DISTRIBUTED.BACKEND == "nccl":
        raise UserError(
            "config.DISTRIBUTED.BACKEND=nccl is for GPUs, and this trains on the CPU: leave it "
            "out, or set gloo"
        )
    if not gpu and config.PROFILING.MEMORY_PROFILING.TRACK_BY_LAYER_MEMORY:
        raise UserError(
            "config.PROFILING.MEMORY_PROFILING.TRACK_BY_LAYER_MEMORY=true is for GPUs, and this "
            "trains on the CPU: leave it out"
        )
    _leave_to_device(config, gpu)
    if not gpu:
        if config.MODEL.AMP_PARAMS.USE_AMP:
            logger.info(
                "config.MODEL.AMP_PARAMS.USE_AMP=true is for GPUs: not so on the CPU, where "
                "config.MODEL.TRUNK.EXECUTION.precision says how precise the network is"
            )
        config.MODEL.AMP_PARAMS.USE_AMP = False
        config.DATA.PIN_MEMORY = False


def _check_nodes(config: DictConfig, gpus: int) -> None:
    """Refuses to decide on the node that submits, which often has no GPU, for those that compute.

    One that has GPUs stands for the others, and that is said.
    """
    device, processes = config.MACHINE.DEVICE, config.DISTRIBUTED.NUM_PROC_PER_NODE
    if device not in (AUTO, "gpu") or AUTO not in (device, processes):
        return
    if not gpus:
        raise UserError(
            f"config.MACHINE.DEVICE={device} with "
            f"config.DISTRIBUTED.NUM_PROC_PER_NODE={processes} is decided where "
            "the job is submitted, and there is no GPU here: set "
            "config.MACHINE.DEVICE=gpu config.DISTRIBUTED.NUM_PROC_PER_NODE=GPUS_OF_A_NODE, or "
            "config.MACHINE.DEVICE=cpu"
        )
    logger.info("nodes are taken to have %d GPUs, as this one has", gpus)


def _leave_to_device(config: DictConfig, gpu: bool) -> None:
    """Decides whether workers or the training step, on its device, finish the views."""
    cut, change = config.VICE.CUT_ON, config.VICE.PHOTOMETRIC_ON
    # Order of operations: views that the device cuts can only be changed after it.
    changes = change == "device" or (change == AUTO and (gpu or cut == "device"))
    cuts = cut == "device" or (cut == AUTO and gpu and changes)
    config.VICE.PHOTOMETRIC_ON = "device" if changes else "workers"
    config.VICE.CUT_ON = "device" if cuts else "workers"


def check_machines(config: DictConfig) -> None:
    """Makes sure several machines can find each other.

    Raises:
        UserError: Several nodes, but neither SLURM nor an address to meet at.
    """
    nodes = int(config.DISTRIBUTED.NUM_NODES)
    if nodes > 1 and not config.SLURM.USE_SLURM and config.DISTRIBUTED.RUN_ID == AUTO:
        raise UserError(
            f"config.DISTRIBUTED.NUM_NODES={nodes} needs config.SLURM.USE_SLURM=true, or this "
            "command on each node with node_id=0,1,... and "
            "config.DISTRIBUTED.RUN_ID=FIRST_HOST:PORT; for one machine set "
            "config.DISTRIBUTED.NUM_NODES=1"
        )


def world(config: Any) -> int:
    """Number of processes."""
    return int(config.DISTRIBUTED.NUM_NODES) * int(config.DISTRIBUTED.NUM_PROC_PER_NODE)

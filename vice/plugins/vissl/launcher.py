"""Runs the processes of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import torch
from vissl.utils.distributed_launcher import launch_distributed

from vice.errors import UserError
from vice.plugins.vissl.configure import write_config
from vice.plugins.vissl.engine import NAME as ENGINE
from vice.plugins.vissl.hooks import vice_hooks
from vice.plugins.vissl.inputs import write_found
from vice.plugins.vissl.resuming import prepare_resume
from vice.preemption import STOPPED, Notice, Preempted, watch_signals


def run_here(
    config: Any,
    node_id: int,
    engine_name: str = ENGINE,
    hooks: Callable[..., list[Any]] = vice_hooks,
) -> None:
    """Runs this node's processes and waits for them.

    Args:
        config: What `configure` returns.
        node_id: 0 to NUM_NODES - 1.
        engine_name: VISSL's engine.
        hooks: As `vice.plugins.vissl.hooks.vice_hooks`; must pickle.

    Raises:
        UserError: Raised by any process, or the run folder cannot be resumed.
        Preempted: The run was asked to stop, and what it has done is saved.
    """
    processes = int(config.DISTRIBUTED.NUM_PROC_PER_NODE)
    if config.MACHINE.DEVICE == "cpu" and processes > 1:
        # Several processes with a thread per core each would fight for the cores.
        share = max((os.cpu_count() or 1) // processes, 1)
        os.environ.setdefault("OMP_NUM_THREADS", str(share))
    prepare_resume(config)
    if node_id == 0:
        write_config(config)
        write_found(config)
    with watch_signals() as notice:
        if notice.signal_number:
            raise Preempted(_too_early(notice))
        try:
            launch_distributed(config, node_id, engine_name, hooks)
        except torch.multiprocessing.ProcessRaisedException as error:
            found = re.findall(r"^vice\.\w+\.(?:UserError|ImageError): (.*)", str(error), re.M)
            if found:
                raise UserError(found[-1]) from error
            raise
        except torch.multiprocessing.ProcessExitedException as error:
            if error.exit_code == STOPPED:
                raise Preempted("stopped, and saved: the same command goes on") from error
            if notice.signal_number:
                raise Preempted(_too_early(notice)) from error
            raise


def _too_early(notice: Notice) -> str:
    return f"stopped by {notice.name} before the first step: the same command goes on"

"""VISSL engine ``vice_train``: VISSL's training among ranks that know of each other."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from vissl.engines import register_engine
from vissl.engines.engine_registry import Engine
from vissl.engines.train import train_main
from vissl.utils.env import set_env_vars

from vice.errors import UserError
from vice.models.training_state import remove_parts
from vice.plugins.vissl.deciding import decide
from vice.plugins.vissl.hooks.run import vice_hooks
from vice.plugins.vissl.option_keys import spelled, with_keys
from vice.plugins.vissl.run_log import run_log
from vice.runtime.failures import report_failure
from vice.runtime.folder_lock import sole_writer
from vice.runtime.interrupts import end_helpers, held_back
from vice.runtime.loader_faults import loader_fault
from vice.runtime.preemption import SIGNALS, watch_signals
from vice.runtime.rendezvous import Roster, join

logger = logging.getLogger(__name__)

NAME = "vice_train"
#: Seconds that a rank whose failure follows from another's waits for that one to be seen first.
COURTESY = 5.0


@register_engine(NAME)
class ViceEngine(Engine):
    """Joins the other ranks within a time-out, then trains as VISSL's own engine does."""

    @spelled()
    def run_engine(
        self,
        cfg: Any,
        dist_run_id: str,
        checkpoint_path: str,
        checkpoint_folder: str,
        local_rank: int = 0,
        node_id: int = 0,
        hook_generator: Callable[..., Any] = vice_hooks,
    ) -> None:
        """Called by VISSL in each process.

        Raises:
            UserError: Bad input; ranks that did not come; another rank that failed first.
            RuntimeError: The other ranks stopped answering; names what each was last doing.
        """
        set_env_vars(local_rank, node_id, cfg)
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if cfg.MACHINE.DEVICE == "gpu":
            torch.cuda.set_device(local_rank)
        timeout = timedelta(minutes=float(cfg.VICE.TIMEOUT_MINUTES))
        with ExitStack() as stack:
            notice = stack.enter_context(watch_signals())
            folder, to_stdout = Path(checkpoint_folder), bool(cfg.SLURM.USE_SLURM)
            stack.enter_context(run_log(folder, rank, node_id, to_stdout=to_stdout))
            _start_helpers(cfg.MULTI_PROCESSING_METHOD)
            backend = cfg.DISTRIBUTED.BACKEND
            roster = join(dist_run_id, rank, ranks, backend=backend, timeout=timeout)
            try:
                if rank == 0:
                    stack.enter_context(sole_writer(folder))
                    remove_parts(folder)
                decide(cfg, roster)
                hooks = partial(hook_generator, roster=roster, notice=notice)
                train_main(
                    cfg, dist_run_id, checkpoint_path, checkpoint_folder, local_rank, node_id, hooks
                )
            except Exception as error:
                # Data loaders outlive a SIGTERM by design, and this process would wait for them.
                end_helpers()
                reported = with_keys(loader_fault(error) or error)
                if ranks > 1:
                    explain(roster, reported)
                if reported is error:
                    raise
                raise reported from error


def _start_helpers(method: str) -> None:
    """Starts the processes that Python needs for others; those neither know nor need signals."""
    with held_back(SIGNALS):
        if method == "forkserver":
            forkserver.ensure_running()


def explain(roster: Roster, error: Exception) -> None:
    """Says whose failure this is.

    Returns if this rank is the cause, and its own error says all.

    Raises:
        UserError: Another rank failed first.
        RuntimeError: The others stopped answering.
    """
    line = next(iter(str(error).splitlines()), "")
    first = report_failure(roster, f"{type(error).__name__}: {line}")
    if first:
        logger.info("this rank ends because another failed first: %s", first)
        time.sleep(COURTESY)
        raise UserError(f"rank {roster.rank} ends because another failed first: {first}") from error
    if _is_communication(error):
        raise RuntimeError(
            f"rank {roster.rank} on {roster.host} no longer hears from the others. Last seen, "
            f"those that are behind first: {roster.report()}"
        ) from error


def _is_communication(error: Exception) -> bool:
    if isinstance(error, torch.distributed.DistError):
        return True
    # RuntimeError: gloo and NCCL raise it too; both name themselves or the connection.
    words = ("gloo", "NCCL", "Connection", "Timed out", "timed out")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)

"""Runs the processes of this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from vissl.utils.checkpoint import (
    get_checkpoint_folder,
    get_resume_checkpoint,
    is_training_finished,
)
from vissl.utils.distributed_launcher import (
    _cleanup_local_dir,
    _copy_to_local,
    _distributed_worker,
)
from vissl.utils.env import set_env_vars
from vissl.utils.misc import get_dist_run_id
from vissl.utils.slurm import get_node_id

from vice.errors import UserError, one_line
from vice.models.training_state import LINK_NAME
from vice.plugins.vissl.config.configure import write_config
from vice.plugins.vissl.config.inputs import write_contents
from vice.plugins.vissl.engine import NAME as ENGINE
from vice.plugins.vissl.hooks.run import vice_hooks
from vice.plugins.vissl.option_keys import spelled
from vice.plugins.vissl.resuming import prepare_resume
from vice.runtime.folder_lock import sole_launcher
from vice.runtime.interrupts import held_back
from vice.runtime.own_folder import keep_others_from_run
from vice.runtime.preemption import SIGNALS, STOPPED, Notice, Preempted, too_early, watch_signals
from vice.runtime.run_folder import write_overrides
from vice.runtime.threads import share_cores

logger = logging.getLogger(__name__)

#: How files end that say how a process has ended its work, after its rank.
_DONE, _STOPPED = ".done", ".stopped"
_SAVED = "stopped, and saved: the same command goes on"
#: Seconds that processes have to end by themselves after the first one has, before they are ended.
GRACE = 15.0


@spelled()
def run_here(
    config: Any,
    node_id: int,
    engine_name: str = ENGINE,
    hooks: Callable[..., list[Any]] = vice_hooks,
    overrides: Sequence[str] = (),
) -> None:
    """Runs this node's processes and waits for them.

    Args:
        config: What `configure` returns.
        node_id: 0 to NUM_NODES - 1.
        engine_name: VISSL's engine.
        hooks: As `vice.plugins.vissl.hooks.run.vice_hooks`; must pickle.
        overrides: What the user gave, kept in the run folder for whoever resumes.

    Raises:
        UserError: Raised by any process, the run folder cannot be resumed, or a process was
            killed.
        Preempted: The run was asked to stop, and what it has done is saved.
    """
    processes = int(config.DISTRIBUTED.NUM_PROC_PER_NODE)
    if config.MACHINE.DEVICE == "cpu" and processes > 1:
        share_cores(processes)
    # Node number: srun starts one command on all nodes.
    node_id = get_node_id(node_id)
    with ExitStack() as stack:
        notice = stack.enter_context(watch_signals())
        if node_id == 0:
            keep_others_from_run(Path(config.CHECKPOINT.DIR))

            def stop_waiting() -> None:
                if notice.signal_number:
                    raise Preempted(_too_early(notice))

            stack.enter_context(sole_launcher(Path(config.CHECKPOINT.DIR), stopped=stop_waiting))
        prepare_resume(config)
        if node_id == 0:
            write_config(config)
            write_overrides(Path(config.CHECKPOINT.DIR), overrides)
            write_contents(config)
        if notice.signal_number:
            raise Preempted(_too_early(notice))
        if is_training_finished(config, get_checkpoint_folder(config)):
            logger.info("the training in %s is done already", config.CHECKPOINT.DIR)
            return
        _launch(config, node_id, engine_name, hooks, notice)


def _launch(
    config: Any, node_id: int, engine_name: str, hooks: Callable[..., Any], notice: Notice
) -> None:
    """VISSL's `launch_distributed`, of which a Ctrl-C may not get lost.

    That one takes a KeyboardInterrupt for the end of the training, starts processes that a Ctrl-C
    reaches before they are ready for it, and puts a log of its own on the terminal.
    """
    set_env_vars(local_rank=0, node_id=node_id, cfg=config)
    folder = get_checkpoint_folder(config)
    link = f"{folder}/{LINK_NAME}"
    resumes = config.CHECKPOINT.USE_SYMLINK_CHECKPOINT_FOR_RESUME and os.path.exists(link)
    arguments = (
        config,
        node_id,
        get_dist_run_id(config, config.DISTRIBUTED.NUM_NODES),
        engine_name,
        link if resumes else get_resume_checkpoint(config, checkpoint_folder=folder),
        folder,
    )
    _copy_to_local(config)
    try:
        if config.DISTRIBUTED.NUM_NODES * config.DISTRIBUTED.NUM_PROC_PER_NODE == 1:
            _distributed_worker(0, *arguments, hooks)
        else:
            _spawn(int(config.DISTRIBUTED.NUM_PROC_PER_NODE), arguments, hooks, notice)
    finally:
        _cleanup_local_dir(config)


def _train(local_rank: int, ends: str, *arguments: Any) -> None:
    """What a spawned process runs; of this module, so that it imports VISSL as ViCE does."""
    with watch_signals(for_another=True):
        try:
            _distributed_worker(local_rank, *arguments)
        except Preempted:
            _leave_word(ends, f"{local_rank}{_STOPPED}")
            raise
        except UserError as error:
            # Error file: a process hands its parent a traceback alone, and classes move.
            text = one_line(error).encode("utf-8", "surrogateescape")
            Path(ends, str(local_rank)).write_bytes(text)
            raise
        _leave_word(ends, f"{local_rank}{_DONE}")


def _leave_word(ends: str, name: str) -> None:
    # Full disks: what the run has come to is known by the exit status as well.
    with suppress(OSError):
        Path(ends, name).touch()


def _spawn(
    processes: int, arguments: tuple[Any, ...], hooks: Callable[..., Any], notice: Notice
) -> None:
    notice.begun = torch.multiprocessing.get_context("spawn").RawValue("b", 0)
    started = partial(hooks, begun=notice.begun)
    with TemporaryDirectory(prefix="vice-") as ends:
        # Signal mask: a signal to all processes must find none that has yet to learn what to do.
        with held_back(SIGNALS):
            context = torch.multiprocessing.spawn(
                _train, (ends, *arguments, started), nprocs=processes, join=False
            )
        _wait(context, Path(ends), notice)


def _wait(context: Any, ends: Path, notice: Notice) -> None:
    """Waits for the processes.

    Args:
        context: Of `torch.multiprocessing.spawn`.
        ends: Folder where a process leaves what it has come to, under its rank: what its user is
            told, or an empty file.
        notice: Whether this process was asked to stop.

    Raises:
        UserError: What the process that ended first has left there, or that it was killed.
        Preempted: The run was asked to stop.
    """
    # Log level: it warns of each process that it ends; what is told is what came of the run.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    try:
        while not _joined(context, ends):
            pass
    except ProcessRaisedException as error:
        if any(ends.glob(f"*{_STOPPED}")):
            raise Preempted(_SAVED) from error
        refusal = ends / str(error.error_index)
        if refusal.is_file():
            text = refusal.read_bytes().decode("utf-8", "surrogateescape")
            raise UserError(text) from error
        raise
    except ProcessExitedException as error:
        # A rank that has stopped has waited until all was saved, whatever becomes of the others.
        if error.exit_code == STOPPED or any(ends.glob(f"*{_STOPPED}")):
            raise Preempted(_SAVED) from error
        if notice.signal_number:
            raise Preempted(_too_early(notice)) from error
        if error.signal_name in ("SIGKILL", "SIGBUS", "SIGTERM"):
            raise UserError(
                f"training process {error.error_index} was ended from outside by "
                f"{error.signal_name}, as the system does when memory runs out: use a smaller "
                "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA, fewer "
                "config.DATA.NUM_DATALOADER_WORKERS or more memory; the same command goes on "
                "from the last state"
            ) from error
        raise


def _joined(context: Any, ends: Path) -> bool:
    """Waits for the next processes that end; whether there are no more.

    Static destructors: those of PyTorch's communication may abort a process that another rank has
    left. One that had done its work by then has not failed.
    """
    for sentinel in connection.wait([*context.sentinels]):
        index = context.sentinels[sentinel]
        process = context.processes[index]
        process.join()
        if process.exitcode and not (ends / f"{index}{_DONE}").exists():
            for other, number in [*context.sentinels.items()]:
                # Nor is one of those to blame that have done their work and end now.
                if (ends / f"{number}{_DONE}").exists():
                    del context.sentinels[other]
            return bool(context.join(grace_period=GRACE))
        if process.exitcode:
            logger.info("process %d was done, and ended with %d", index, process.exitcode)
        del context.sentinels[sentinel]
    return not context.sentinels


def _too_early(notice: Notice) -> str:
    if notice.begun.value:
        return f"stopped by {notice.name}: the same command goes on from the last state"
    return f"{too_early(notice.name)}: the same command goes on"

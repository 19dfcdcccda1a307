"""VISSL's default hooks, with writers that a full disk does not end."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any

from classy_vision.hooks import ClassyHook
from vissl.hooks import SSLTensorboardHook, default_hook_generator
from vissl.utils.checkpoint import get_checkpoint_folder

from vice.plugins.vissl.hooks.base import SilentHook
from vice.runtime.event_log import EventLog
from vice.runtime.patient_file import PatientStream


class TensorBoardHook(SSLTensorboardHook):
    """VISSL's hook, which also brings its records to the disk after each epoch."""

    def on_phase_end(self, task: Any) -> None:
        """After each epoch."""
        super().on_phase_end(task)
        self.tb_writer.flush()

    def on_end(self, task: Any) -> None:
        """After the training."""
        super().on_end(task)
        self.tb_writer.flush()


class FlushHook(SilentHook):
    """Brings text to the disk after each epoch, where a disk that is full is told among the rest.

    Args:
        streams: What is written.
    """

    def __init__(self, streams: list[PatientStream]) -> None:
        super().__init__()
        self.streams = streams

    def on_phase_end(self, task: Any) -> None:
        """After each epoch."""
        del task
        for stream in self.streams:
            stream.flush()


def default_hooks(cfg: Any) -> list[ClassyHook]:
    """VISSL's default hooks; what they write waits for a disk that is full.

    Args:
        cfg: VISSL's configuration.
    """
    hooks = _with_own_writer(cfg)
    streams = []
    for hook in hooks:
        # JSON lines of the losses: VISSL keeps the file open and ends with the disk.
        stream = getattr(hook, "json_stdout_logger", None)
        if stream is not None:
            hook.json_stdout_logger = PatientStream(Path(stream.name))
            atexit.register(hook.json_stdout_logger.close)
            streams.append(hook.json_stdout_logger)
    return [*hooks, FlushHook(streams)]


def _with_own_writer(cfg: Any) -> list[ClassyHook]:
    setup = cfg.HOOKS.TENSORBOARD_SETUP
    if not setup.USE_TENSORBOARD:
        return list(default_hook_generator(cfg))
    # Lazy open: VISSL's writer makes its folder and file at once, and fails with the disk.
    setup.USE_TENSORBOARD = False
    try:
        hooks = list(default_hook_generator(cfg))
    finally:
        setup.USE_TENSORBOARD = True
    writer = EventLog(f"{get_checkpoint_folder(cfg)}/tb_logs", setup.FLUSH_EVERY_N_MIN * 60)
    tensorboard = TensorBoardHook(
        tb_writer=writer,
        log_params=setup.LOG_PARAMS,
        log_params_every_n_iterations=setup.LOG_PARAMS_EVERY_N_ITERS,
        log_params_gradients=setup.LOG_PARAMS_GRADIENTS,
        log_activation_statistics=cfg.MONITORING.MONITOR_ACTIVATION_STATISTICS,
    )
    return [tensorboard, *hooks]

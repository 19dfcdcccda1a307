"""MMEngine's runner as the evaluations need it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn

from vice.names import name_bytes
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.formatter import import_formatter
from vice.runtime.library_log import library_log
from vice.runtime.log_streams import guard

#: Where MMEngine's runner says which of its checkpoints is the last one.
LAST_NAME = "last_checkpoint"


def quiet_own_log(level: str) -> None:
    """Sees to MMEngine's log where no runner makes one: its first line would show all of it.

    Args:
        level: Of what the terminal shows, as of `vice.evaluation.task.Task`.
    """
    if MMLogger.check_instance_created("mmengine"):
        return
    logger = MMLogger.get_instance("mmengine", log_level=level)
    if log := library_log():
        logger.addHandler(log)


class DeviceRunner(Runner):
    """MMEngine's runner on the config's ``device``; MMEngine itself always takes a GPU."""

    def build_logger(self, *arguments: Any, **options: Any) -> MMLogger:
        """A log that a full disk or an odd file name does not make fail."""
        logger = super().build_logger(*arguments, **options)
        guard(logger.handlers)
        for handler in logger.handlers:
            # Log level: the file has what the terminal is spared.
            if isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.INFO)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Moves the model to the wanted device and lets the ranks average its gradients."""
        device = self.cfg.get("device")
        if not self.distributed:
            model = super().wrap_model(model_wrapper_cfg, model)
            return model if device is None else model.to(device)
        if self.cfg.get("sync_bn"):
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        model = model.to(device or get_device())
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get("find_unused_parameters", False),
        )


class _NamesAsBytes(CheckpointHook):
    """MMEngine's hook, whose note of the last file would fail on a path that is not UTF-8."""

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        except UnicodeEncodeError:
            note = Path(runner.work_dir) / LAST_NAME
            note.write_bytes(name_bytes(str(self.last_ckpt)))


def make_runner(config: Config, shared: SharedEmbedder | None) -> DeviceRunner:
    """A runner of a config.

    Args:
        config: A finished config.
        shared: Handed to the model's backbone if that means it; None: it loads its own.
    """

    class SharingRunner(DeviceRunner):
        def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
            # Not into the config: that is written down, and copied with all that is in it.
            if shared is not None and isinstance(model, dict):
                model = {**model, "backbone": shared.hand_to(model["backbone"])}
                if shared.head:
                    model["decode_head"] = {**model["decode_head"], **shared.head}
            return super().build_model(model)

    import_formatter()
    runner = SharingRunner.from_cfg(config)
    for hook in runner.hooks:
        if type(hook) is CheckpointHook:
            hook.__class__ = _NamesAsBytes
    return runner

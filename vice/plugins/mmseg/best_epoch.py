"""The epoch of a probe's training that is best on the scored labels, as some papers report it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vice.evaluation.image_counts import ImageTables
from vice.evaluation.results import scores
from vice.evaluation.task import Task
from vice.plugins.mmseg.pipelines import count_steps
from vice.scoring import CountTable


@dataclass(frozen=True)
class BestEpoch:
    """Counts of the scored split after the best epoch.

    Attributes:
        epoch: Its number, from 1.
        epochs: How many were looked at.
        table: The counts.
        images: Those of each image, on the first rank; None on others.
    """

    epoch: int
    epochs: int
    table: CountTable
    images: ImageTables | None


def watch_epochs(config: Config, task: Task, images: int) -> None:
    """Has the scored split scored after each epoch of the probe, where it is trained by epochs.

    Nothing is chosen by it: the probe goes on to its last epoch.

    Args:
        config: Of the probe, finished by `vice.plugins.mmseg.running.set_probe`; is changed.
        task: What is scored on what.
        images: Number of train images, or of their crops.
    """
    protocol = task.protocol
    _, steps = count_steps(protocol, images)
    if protocol.linear_optimizer == "lbfgs" or not steps:
        return
    config.train_cfg.val_interval = steps
    config.val_dataloader = copy.deepcopy(config.test_dataloader)
    config.val_cfg = {"type": "ValLoop"}
    config.val_evaluator = {"type": "CountMetric", "per_image": True}
    hook = {"type": "BestEpochHook", "steps": steps, "over": protocol.miou_over}
    config.custom_hooks = [*config.get("custom_hooks", []), hook]


@HOOKS.register_module()
class BestEpochHook(Hook):
    """Keeps the counts of the epoch with the greatest mIoU; of equal ones, the first.

    Args:
        steps: Steps of an epoch.
        over: As ``miou_over`` of the protocol.

    Attributes:
        best: None before the first epoch has ended.
    """

    def __init__(self, steps: int, over: str = "present") -> None:
        self.steps, self.over = steps, over
        self.best: BestEpoch | None = None
        self._greatest = -1.0

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Looks at the scores of an epoch."""
        metric = runner.val_loop.evaluator.metrics[0]
        table, epoch = metric.tables[0], runner.iter // self.steps
        kept = self.best
        miou = _miou(table, self.over)
        if kept is None or miou > self._greatest:
            images = metric.image_tables[0] if metric.image_tables else None
            self._greatest, kept = miou, BestEpoch(epoch, epoch, table, images)
        self.best = BestEpoch(kept.epoch, epoch, kept.table, kept.images)


def _miou(table: CountTable, over: str) -> float:
    names = tuple(str(index) for index in range(table.num_classes))
    found: Any = scores(table, table.identity(), names, over=over)["miou"]
    return -1.0 if found is None else float(found)


def best_epoch_of(hooks: list[Hook]) -> BestEpoch | None:
    """What the `BestEpochHook` among some hooks has kept."""
    return next((hook.best for hook in hooks if isinstance(hook, BestEpochHook)), None)

"""VISSL train step ``vice_train_step``: VISSL's own, undone if it is not finite."""

from __future__ import annotations

from typing import Any

from vissl.trainer.train_steps import register_train_step
from vissl.trainer.train_steps.standard_train_step import standard_train_step

from vice.plugins.vissl.hooks.finite import undone_if_skipped


@register_train_step("vice_train_step")
def vice_train_step(task: Any) -> Any:
    """Takes a step; nothing changes if its loss or gradient is not finite."""
    with undone_if_skipped(task, task.copies):
        standard_train_step(task)
    return task

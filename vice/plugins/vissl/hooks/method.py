"""Hook that lets the method do what it does between steps and epochs."""

from __future__ import annotations

from typing import Any

from vice.methods import Stopped
from vice.plugins.vissl.hooks.base import SilentHook
from vice.plugins.vissl.hooks.saving import SaveHook
from vice.plugins.vissl.passes import TrainingContext
from vice.runtime.collectives import broadcast_


class MethodHook(SilentHook):
    """Calls the method, and knows which of its work a state holds already.

    Comes after the hook that saves, which puts the random state back when an epoch starts.

    Args:
        saver: Saves when a pass over the images is told to stop.
    """

    def __init__(self, saver: SaveHook) -> None:
        super().__init__()
        self.saver = saver
        self.context: TrainingContext | None = None

    def on_start(self, task: Any) -> None:
        """Takes up the method's state, and lets it make what its workers read.

        Raises:
            Preempted: The run was asked to stop; nothing has been changed.
        """
        self.context = TrainingContext(task, self.saver.notice)
        if "method" in self.saver.resumed:
            task.method.load_state_dict(self.saver.resumed["method"])
        task.note("preparing what workers read", task.iteration)
        try:
            task.method.before_workers(self.context)
        except Stopped:
            self.saver.leave(task)

    def on_phase_start(self, task: Any) -> None:
        """Before an epoch; one that a state is inside of has begun already.

        Raises:
            Preempted: The run was asked to stop; this work begins anew with the same command.
        """
        task.epoch_begun = self.saver.resumed.pop("epoch_begun", False)
        if task.epoch_begun:
            task.method.resume_epoch(self.context)
            return
        task.note("preparing an epoch", task.iteration)
        # Batch statistics of a rank are its own until the next forward pass, and a state holds
        # those of the first one.
        for buffer in task.base_model.buffers():
            broadcast_(buffer)
        try:
            if task.iteration == 0:
                task.method.before_training(self.context)
            task.method.before_epoch(self.context)
        except Stopped:
            self.saver.exit_unfinished(task)
        task.epoch_begun = True

    def on_backward(self, task: Any) -> None:
        """Between the gradients, which are finite, and the step."""
        task.method.before_step(self.context)

    def on_update(self, task: Any) -> None:
        """After a step that was taken."""
        task.method.after_step(self.context)


class LastExportHook(SilentHook):
    """Lets the method prepare the export of a training that is done; comes before what exports.

    Args:
        saver: As in `MethodHook`.
    """

    def __init__(self, saver: SaveHook) -> None:
        super().__init__()
        self.saver = saver

    def on_phase_end(self, task: Any) -> None:
        """After the last epoch.

        Raises:
            Preempted: The run was asked to stop; this work begins anew with the same command.
        """
        if not task.train or task.train_phase_idx != task.num_train_phases - 1:
            return
        task.note("preparing the export", task.iteration)
        try:
            task.method.before_export(TrainingContext(task, self.saver.notice))
        except Stopped:
            # The state of a last step: what is resumed from it has this alone to do.
            self.saver.exit_unfinished(task)

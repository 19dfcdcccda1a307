"""Hook that saves the state of training: in time, whole, and complete.

Takes the place of the saving in VISSL's ``LogLossMetricsCheckpointHook``, with the same file names
and layout, so that VISSL itself resumes from what is written here. It adds what VISSL's lacks:
atomic writing, the queues and random states of all ranks, the state of PyTorch's gradient scaler,
a limit on the files kept, and a last state before a preemption.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from classy_vision.generic.distributed_util import is_primary

from vice.errors import UserError
from vice.models.training_state import (
    link_newest,
    name_inside,
    name_of_epoch,
    remove_old,
    write_snapshot,
)
from vice.plugins.vissl.hooks.base import SilentHook
from vice.runtime.collectives import all_gather, rank
from vice.runtime.interrupts import end_helpers
from vice.runtime.preemption import Notice, Preempted, too_early
from vice.runtime.provenance import digest_file
from vice.runtime.rendezvous import Roster
from vice.runtime.rng_state import get_random_state, set_random_state

logger = logging.getLogger(__name__)


class SaveHook(SilentHook):
    """Saves every so many steps and epochs, and when asked to stop.

    Args:
        folder: The run folder.
        every_steps: Steps between two states inside an epoch; below 1 there are none.
        every_epochs: Epochs between two states at their ends; the last epoch always has one.
        keep: States inside epochs that are kept.
        roster: The ranks of the run; None for a process on its own.
        notice: Whether this process was asked to stop.
        settings: Kept in the state, to be compared when it is resumed from.
    """

    def __init__(
        self,
        folder: str,
        every_steps: int,
        every_epochs: int,
        keep: int,
        roster: Roster | None,
        notice: Notice,
        settings: dict[str, str],
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.every_steps = every_steps
        self.every_epochs = max(every_epochs, 1)
        self.keep = keep
        self.roster = roster
        self.notice = notice
        self.settings = settings
        self.resumed: dict[str, Any] = {}

    def on_start(self, task: Any) -> None:
        """Puts back this rank's random state when resuming from the end of an epoch.

        Raises:
            UserError: The data set has another size than before.
        """
        resumed = (task.checkpoint or {}).get("vice", {})
        now = len(task.datasets["train"])
        if resumed.get("samples", now) != now:
            raise UserError(
                f"the run in {self.folder} was begun with {resumed['samples']} samples an epoch, "
                f"now config.DATA.TRAIN.DATA_PATHS gives {now}: restore the images, or choose "
                "another config.CHECKPOINT.DIR"
            )
        self.resumed = resumed
        if not resumed.get("inside"):
            self._restore_randomness(task)

    def on_phase_start(self, task: Any) -> None:
        """The same when resuming inside an epoch, whose data loaders have drawn their seed."""
        self._restore_randomness(task)

    def _restore_randomness(self, task: Any) -> None:
        states = self.resumed.pop("random", [])
        if rank() < len(states):
            set_random_state(states[rank()], task.device)

    def on_forward(self, task: Any) -> None:
        """From the first step on there is something to save."""
        del task
        self.notice.begun.value = 1

    def on_step(self, task: Any) -> None:
        """Inside an epoch; the last step's state is the epoch's."""
        stop = self.notice.given_anywhere(task.device)
        if task.iteration % len(task.dataloaders["train"]) == 0:
            return
        if stop or (self.every_steps > 0 and task.iteration % self.every_steps == 0):
            self._save(task, inside=True, must=stop)
        if stop:
            self.leave(task)

    def on_phase_end(self, task: Any) -> None:
        """After each epoch."""
        if not task.train:
            return
        stop = self.notice.given_anywhere(task.device)
        epoch = task.train_phase_idx
        final = epoch == task.num_train_phases - 1
        due = epoch % self.every_epochs == 0
        due = due or (self.every_steps > 0 and task.iteration % self.every_steps == 0)
        if final or stop or due:
            self._save(task, inside=False, must=final or stop)
        if final and is_primary():
            with self._optional():
                remove_old(self.folder, 0)
        if stop and not final:
            self.leave(task)

    def _save(self, task: Any, *, inside: bool, must: bool) -> None:
        task.method.before_saving(task.base_loss.criterion)
        states = _random_states(task.device)
        if not is_primary():
            return
        state = _state(task, inside)
        samples = len(task.datasets["train"])
        state["vice"] = {
            "random": states,
            "inside": inside,
            "settings": self.settings,
            "samples": samples,
            "method": task.method.state_dict(),
            **self._begun(task, inside),
        }
        path = self.folder / _name(task, inside)
        try:
            write_snapshot(path, state)
        except UserError as error:
            if must:
                raise
            # Disk errors: hours of training are worth more than one of many states.
            logger.error("%s. Training goes on and tries again at the next state", error)
            return
        logger.info("saved %s", path)
        # Symbolic link: resuming looks for the furthest state itself.
        with self._optional():
            link_newest(self.folder, path)
            remove_old(self.folder, self.keep)

    @contextmanager
    def _optional(self) -> Iterator[None]:
        """For what a run can do without, once its state is on disk."""
        try:
            yield
        except OSError as error:
            logger.error("%s: %s. Training goes on", self.folder, error)

    def _begun(self, task: Any, inside: bool) -> dict[str, Any]:
        """What resuming inside an epoch relies on, besides the state."""
        if not (inside and task.epoch_begun):
            return {}
        files = {name: digest_file(self.folder / name) for name in task.method.files()}
        return {"epoch_begun": True, "files": files}

    def exit_unfinished(self, task: Any) -> None:
        """Saves and ends while an epoch or the last export is prepared, which is begun anew then.

        Raises:
            Preempted: Always.
        """
        if task.iteration:
            self._save(task, inside=True, must=True)
        self.leave(task)

    def leave(self, task: Any) -> None:
        """Ends the process; what is saved is all that there is to save.

        Raises:
            Preempted: Always.
        """
        # Data loaders have nothing more to do, and outlive a SIGTERM by design.
        end_helpers()
        task.end_batches()
        # Barrier: nobody may end, and take the others down, before the state is on disk.
        if self.roster is not None:
            self.roster.exit_barrier()
        if not task.iteration:
            raise Preempted(f"{too_early(self.notice.name)}: the same command begins again")
        raise Preempted(
            f"stopped by {self.notice.name} after iteration {task.iteration}, everything is "
            f"saved in {self.folder}: the same command goes on from there"
        )


def _state(task: Any, inside: bool) -> dict[str, Any]:
    """What VISSL resumes from; inside an epoch, that epoch counts as not begun."""
    back = int(inside)
    classy = task.get_classy_state()
    classy["phase_idx"] -= back
    classy["train_phase_idx"] -= back
    if task.amp_grad_scaler is not None:
        classy["amp"] = task.amp_grad_scaler.state_dict()
    return {
        "type": "consolidated",
        "phase_idx": task.phase_idx - back,
        "train_phase_idx": task.train_phase_idx - back,
        "iteration": int(task.iteration),
        "iteration_num": task.local_iteration_num,
        "loss": task.loss.state_dict(),
        "classy_state_dict": classy,
    }


def _name(task: Any, inside: bool) -> str:
    if inside:
        return name_inside(int(task.iteration))
    final = task.train_phase_idx == task.num_train_phases - 1
    return name_of_epoch(task.train_phase_idx, final=final)


def _random_states(device: torch.device) -> list[dict[str, torch.Tensor]]:
    state = get_random_state(device)
    # NCCL collectives take tensors of the GPU.
    gathered = {
        name: [part.cpu() for part in all_gather(value.to(device))] for name, value in state.items()
    }
    ranks = len(next(iter(gathered.values())))
    return [{name: parts[number] for name, parts in gathered.items()} for number in range(ranks)]

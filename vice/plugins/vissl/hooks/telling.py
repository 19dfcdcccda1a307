"""Progress of a training on the terminal, in some twenty lines."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from classy_vision.generic.distributed_util import is_primary

from vice.errors import UserError
from vice.plugins.vissl.hooks.base import SilentHook
from vice.runtime.progress import MOST, SHARE, clock

NAME = __name__
logger = logging.getLogger(NAME)

#: Least seconds between two lines: ten lines come in the first hundred seconds, then one with each
#: tenth more, until they come every ten minutes.
LEAST = 10.0


class ProgressHook(SilentHook):
    """Says where the training is, what its loss is and how long it will take.

    Args:
        folder: The run folder.
        log: The file that has all the rest.
    """

    def __init__(self, folder: str, log: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.log = log
        self.start = self.last_line = 0.0
        self.first = 0
        self.identity = (0, 0)

    def on_start(self, task: Any) -> None:
        """Says how long the training is."""
        if is_primary():
            self.identity = _identity(self.folder)
            self.first = int(task.iteration)
            gone_on = f", going on after {self.first}" if self.first else ""
            logger.info(
                "training: %d steps in %d epochs%s; the whole log goes to %s",
                task.max_iteration,
                task.num_epochs,
                gone_on,
                self.folder / self.log,
            )

    def on_update(self, task: Any) -> None:
        """After each step.

        Raises:
            UserError: The run folder is gone.
        """
        if not is_primary():
            return
        if _is_another(self.folder, self.identity):
            raise UserError(
                f"the run folder {self.folder} was deleted or moved while the training ran, which "
                "ends here: put it back, and the same command goes on from its last state"
            )
        done, now = int(task.iteration) + 1, time.monotonic()
        if not self.start:
            # Warm-up: the first step waits for the images, and compiles.
            self.start, self.first = now, done
        elif now - self.last_line < min(max(SHARE * (now - self.start), LEAST), MOST):
            return
        self.last_line = now
        steps = done - self.first
        remaining = (now - self.start) / max(steps, 1) * (task.max_iteration - done)
        logger.info(
            "training: step %d of %d, epoch %d of %d, loss %.4g%s",
            done,
            task.max_iteration,
            task.train_phase_idx + 1,
            task.num_epochs,
            task.loss.health["loss"],
            f", {clock(remaining)} left" if steps else "",
        )

    def on_end(self, task: Any) -> None:
        """Says that all steps are done."""
        if is_primary():
            taken = clock(time.monotonic() - self.start) if self.start else "no time"
            logger.info("training: step %d of %d, done in %s", task.iteration, task.max_iteration,
                        taken)  # fmt: skip


def _is_another(folder: Path, identity: tuple[int, int]) -> bool:
    """Whether a folder is gone, or another has taken its name: whoever writes makes one anew."""
    try:
        return _identity(folder) != identity
    except FileNotFoundError:
        return True
    except OSError:
        # Disk errors: one that does not answer for a moment has lost nothing.
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino

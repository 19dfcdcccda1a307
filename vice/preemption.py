"""Stopping in time: signals that ask a process to end are noted and obeyed after the step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: What cluster managers send before they take a machine away; Windows has only the first.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
#: Exit status of a run that was stopped and goes on with the same command (EX_TEMPFAIL).
STOPPED = 75
#: Seconds that a data loader outlives a SIGTERM.
LOADER_SECONDS = 15


class Preempted(SystemExit):
    """Everything is saved and the process ends, because it was asked to.

    Args:
        message: What to tell the user.
    """

    def __init__(self, message: str) -> None:
        super().__init__(STOPPED)
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass
class Notice:
    """Whether this process was asked to stop.

    Attributes:
        signal_number: The last signal; 0 while there was none.
    """

    signal_number: int = 0

    @property
    def name(self) -> str:
        """Name of the signal."""
        return signal.Signals(self.signal_number).name if self.signal_number else "no signal"

    def given_anywhere(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop; a collective call, the same answer on all."""
        # Command lines import this module for their help texts, which need no PyTorch.
        import torch

        from vice.distributed import all_reduce_

        flag = torch.tensor(float(self.signal_number), device=device)
        found = int(all_reduce_(flag, "max"))
        self.signal_number = self.signal_number or found
        return bool(found)


#: What the watch of this process has noted; None while there is no watch.
_noted: Notice | None = None


@contextmanager
def watch_signals() -> Iterator[Notice]:
    """Notes the signals of ``SIGNALS`` instead of dying of them, and tells the children.

    A signal to the main process of a run is meant for the processes that train, so it is sent on
    to children, other than daemons such as data loaders. A watch inside another shares its notice.

    Yields:
        What was noted. Outside the main thread of a process nothing is noted, since Python
        delivers signals there.
    """
    global _noted
    if _noted is not None or threading.current_thread() is not threading.main_thread():
        yield _noted or Notice()
        return
    notice = _noted = Notice()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        notice.signal_number = number
        for child in active_children():
            if child.pid is not None and not child.daemon:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield notice
    finally:
        _noted = None
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def leave_to_parent() -> None:
    """For a data loading process: signals to the whole job are its parent's business.

    Without this a cluster manager's signal would kill the loaders at once, and with them the
    training that wanted to end its step. SIGTERM, by which a parent may also end them, still does
    so, but late.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LOADER_SECONDS))

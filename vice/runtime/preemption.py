"""Preemption: signals that ask a process to end are noted, and obeyed after the step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import active_children
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from vice.runtime.interrupts import end_now, known

if TYPE_CHECKING:
    import torch

#: What cluster managers send before they take a machine away; the same command is to go on.
MANAGED = known("SIGTERM", "SIGUSR1", "SIGUSR2")
#: What a person sends (Ctrl-C, Ctrl-\), or a terminal that is lost.
PERSONAL = known("SIGINT", "SIGQUIT", "SIGHUP")
SIGNALS = MANAGED + PERSONAL
#: Those of which a second one means: at once. A lost terminal may send several of its own.
_INSISTENT = known("SIGINT", "SIGQUIT")
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
        signal_number: The first signal; 0 while there was none.
        begun: Its ``value`` is 1 as soon as there is something to save. Shared between the
            process that was started and those that train.
        insisted: Whether a person has asked already.
    """

    signal_number: int = 0
    begun: Any = field(default_factory=lambda: SimpleNamespace(value=0))
    insisted: bool = False

    @property
    def name(self) -> str:
        """Name of the signal."""
        return signal.Signals(self.signal_number).name if self.signal_number else "no signal"

    def given_anywhere(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop; a collective call, the same answer on all."""
        # Lazy import: command lines load this for their help texts, which need no PyTorch.
        import torch

        from vice.runtime.collectives import all_reduce_

        flag = torch.tensor(float(self.signal_number), device=device)
        signal_number = int(all_reduce_(flag, "max"))
        self.signal_number = self.signal_number or signal_number
        return bool(signal_number)


#: The process that leaves signals to its parent: one that is forked from it does not yet.
_ignoring = 0
#: The watch of this process; None while there is no watch.
_watch: _Watch | None = None


class _Watch:
    """Handles the signals of one process, and of none that is forked from it."""

    def __init__(self, for_another: bool) -> None:
        self.notice = Notice()
        self.process = os.getpid()
        self.for_another = for_another
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # SIG_IGN: nohup, and shells that start a job in the background, have these ignored.
            if number in MANAGED or handler is not signal.SIG_IGN:
                self.before[number] = signal.SIG_DFL if handler is None else handler
                signal.signal(number, self.note)
        if self.for_another:
            # Signal mask: the process that has started this one held them back until now.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def remove(self) -> None:
        for number, handler in self.before.items():
            # Process group: to one that trains for another nothing but SIGTERM means anything, and
            # not that either to one that ends because it was asked to.
            over = self.for_another and (number != signal.SIGTERM or self.notice.signal_number)
            signal.signal(number, signal.SIG_IGN if over else handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self.process:
            return
        notice = self.notice
        if number in PERSONAL and not self.for_another:
            name = signal.Signals(number).name
            if notice.insisted and number in _INSISTENT:
                end_now(f"stopped at once by a second {name}: the same command goes on from the "
                        "last state that was saved")  # fmt: skip
            if not notice.begun.value:
                end_now(f"{too_early(name)}: there was nothing new to save")
            notice.insisted |= number in _INSISTENT
        notice.signal_number = notice.signal_number or number
        for child in active_children():
            if child.pid is not None and not child.daemon:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, number)


@contextmanager
def watch_signals(*, for_another: bool = False) -> Iterator[Notice]:
    """Notes the signals of ``SIGNALS`` instead of dying of them, and tells the children.

    A signal to the main process of a run is meant for the processes that train, so it is sent on
    to children, other than daemons such as data loaders. A watch inside another shares its notice.
    A person's signal ends the main process and all below it at once, with status 130, while there
    is nothing to save, and so does a second Ctrl-C at any time. Signals that the process was told
    to ignore when it was started (nohup) stay ignored.

    Args:
        for_another: Whether another process has started this one with signals held back, and
            decides when to end it.

    Yields:
        What was noted. Outside the main thread of a process nothing is noted, since Python
        delivers signals there.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield _watch.notice if _watch is not None else Notice()
        return
    watch = _watch = _Watch(for_another)
    watch.install()
    try:
        yield watch.notice
    finally:
        _watch = None
        watch.remove()


def too_early(name: str) -> str:
    """First words about a run that a signal of this name has stopped before it took a step."""
    return f"stopped by {name} before the first step"


def ignore_job_signals() -> None:
    """For a data loading process: signals to the whole job are its parent's business.

    Without this a cluster manager's signal, or a Ctrl-C, which a terminal sends to all processes,
    would kill the loaders at once, and with them the training that wanted to end its step. SIGTERM,
    by which a parent may also end them, still does so, but late. Whatever ends the parent ends
    them as well. It may be called for each sample: after the first call in a process it does
    nothing.
    """
    global _ignoring
    if _ignoring == os.getpid():
        return
    _ignoring = os.getpid()
    for number in SIGNALS:
        if number != getattr(signal, "SIGTERM", None):
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LOADER_SECONDS))
    _end_with_parent()


def _end_with_parent() -> None:
    """Lets the kernel end this process with the one that started it; only Linux knows how."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

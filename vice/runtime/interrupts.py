"""Interrupts (Ctrl-C) of a command: one word, status 130, and no process that stays behind.

Little of the standard library is imported here, and a command imports this before all else: from
then on Ctrl-C ends it quietly, also while it imports for seconds.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

#: Exit status of a command that was interrupted (128 and the number of SIGINT).
INTERRUPTED = 130
#: Exit status of a command that SIGTERM has ended (128 and its number).
TERMINATED = 143
#: Exit status of a command whose output nobody reads any more (128 and the number of SIGPIPE).
UNREAD = 141
#: Seconds that an interrupted command has to clear up before it is ended.
GRACE = 10.0
MESSAGE = "stopped"
#: What pip calls the script of the command ``vice``.
_COMMANDS = ("vice", "vice.exe", "vice-script.py")

#: Where a last message goes; another number while standard error leads into a file.
_terminal = 2


def known(*names: str) -> tuple[signal.Signals, ...]:
    """Those of some signals that this system has."""
    return tuple(getattr(signal.Signals, name) for name in names if hasattr(signal.Signals, name))


def set_terminal(descriptor: int) -> None:
    """Says which file descriptor is the terminal's, for `write_to_terminal`."""
    global _terminal
    _terminal = descriptor


def write_to_terminal(message: str) -> None:
    """Writes a line to the terminal; one that is gone changes nothing."""
    with suppress(OSError):
        os.write(_terminal, f"{message}\n".encode("utf-8", "surrogateescape"))


def end_now(message: str, status: int = INTERRUPTED) -> NoReturn:
    """Ends this process and all that it has started, without any clearing up.

    Args:
        message: Told to the user; empty for nothing.
        status: Exit status.
    """
    children = _children(os.getpid())
    for child in _below(os.getpid()):
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
    for child in children:
        # Zombies: not all systems clear away what nobody has waited for.
        with suppress(OSError):
            os.waitpid(child, 0)
    if message:
        write_to_terminal(message)
    os._exit(status)


def end_helpers() -> None:
    """Ends the processes that load data for an interrupted one, before they can complain."""
    if hasattr(signal, "SIGCHLD"):
        # SIGCHLD: PyTorch would take the end of a data loader for a failure.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in _started():
        if child.daemon:
            child.kill()


def _below(process: int) -> list[int]:
    """Processes started by a process, and by those; only its own children without /proc."""
    descendants: list[int] = []
    for child in _children(process):
        descendants += [child, *_below(child)]
    return descendants


def _children(process: int) -> list[int]:
    try:
        folder = f"/proc/{process}/task"
        texts = [_read(f"{folder}/{thread}/children") for thread in os.listdir(folder)]
        return [int(text) for text in " ".join(texts).split()]
    except OSError:
        is_self = process == os.getpid()
        return [each.pid for each in _started() if is_self and each.pid]


def _started() -> list[Any]:
    """Processes that Python's own module has started here; it need not be imported."""
    module = sys.modules.get("multiprocessing.process")
    return [] if module is None else list(module.active_children())


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def open_closed_streams() -> None:
    """Opens standard input, output and error anew where the shell has closed them (``>&-``).

    The next file that is opened would otherwise get the number of one, and what libraries print
    would go into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # File descriptor: the lowest free one is this, since those before it are open.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


@contextmanager
def held_back(numbers: Iterable[int]) -> Iterator[None]:
    """Processes that are started in the block begin with these signals held back.

    They get them as soon as they are ready to handle them, or never.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    numbers = tuple(numbers)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        # Resource tracker: Python starts it with the first process, and lets signals through.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_while_importing() -> None:
    """Lets Ctrl-C end a command that has not begun: nothing is to be cleared up.

    Does nothing in a process that runs no command, a script of ``tools/`` or ``vice``, such as that
    of a test.
    """
    file = os.path.abspath(str(getattr(sys.modules.get("__main__"), "__file__", "")))
    folder, name = os.path.split(file)
    command = os.path.basename(folder) == "tools" or name in _COMMANDS
    # The script that pip made, and `python -m vice`, which is read as the folder's __main__.py.
    command |= name == "__main__.py" and os.path.basename(folder) == "vice"
    module = sys.modules.get("multiprocessing.process")
    is_child = module is not None and module.parent_process() is not None
    if command and not is_child and _is_default():
        signal.signal(signal.SIGINT, _end)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM in the block raise a KeyboardInterrupt; a second one ends the process.

    So does a first one that the code has swallowed, or not obeyed after some seconds. Processes
    that are forked in the block ignore Ctrl-C, which a terminal sends to all of them: ending them
    is their parent's business, and SIGTERM, by which it does so, does to them what it always does.
    """
    ours = threading.current_thread() is threading.main_thread() and (
        _is_default() or signal.getsignal(signal.SIGINT) is _end
    )
    if not ours:
        yield
        return
    global _forked_ignore, _first
    signal.signal(signal.SIGINT, _interrupt)
    # Ignored or handled SIGTERM: whoever started this process, or runs it inside, wants it so.
    ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ends:
        signal.signal(signal.SIGTERM, _interrupt)
    _forked_ignore, _first = True, 0
    try:
        yield
    finally:
        _forked_ignore, _first = False, 0
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if ends:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def has_come() -> bool:
    """Whether a signal has interrupted the command, whatever has become of its exception."""
    return _first != 0


def status() -> int:
    """Exit status of a command that was interrupted, by what came first."""
    return TERMINATED if _first == signal.SIGTERM else INTERRUPTED


def keep_status(status: int, numbers: Iterable[int]) -> None:
    """Lets no signal change any more what a command has come to; all has been said about it.

    The interpreter takes seconds to end. A signal shortens them, and is ignored at the very end,
    when the interpreter has given its handlers up.

    Args:
        status: The exit status.
        numbers: Signals; those that the process ignores stay ignored.
    """
    if threading.current_thread() is threading.main_thread():
        _kept.update(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)
        atexit.register(_handle_kept, lambda *_: end_now("", status))


#: Signals that no longer change the exit status.
_kept: set[int] = set()


def _handle_kept(handler: Any) -> None:
    for number in _kept:
        signal.signal(number, handler)


# Last in, first out: what is registered first is done last.
atexit.register(_handle_kept, signal.SIG_IGN)
_forked_ignore = False
#: The signal that has interrupted the command; 0 while there was none.
_first = 0


#: The signals that a thread held back before it forked.
_masks = threading.local()


def _hold_back() -> None:
    # A SIGTERM that met the handler in a child which has yet to drop it would be lost.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _ignore_in_fork() -> None:
    if _forked_ignore:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if signal.getsignal(signal.SIGTERM) in (_interrupt, _end):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_through()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_back, after_in_parent=_let_through, after_in_child=_ignore_in_fork
    )


def _is_default() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _end(number: int, frame: FrameType | None) -> None:
    end_now(MESSAGE, 128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _first
    _first = _first or number
    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is _interrupt:
            signal.signal(each, _end)
    late = threading.Timer(GRACE, end_now, ("",))
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def is_unread(stream: Any) -> bool:
    """Whether a stream leads into a pipe that nobody reads any more, or to a lost terminal."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        gone = select.POLLERR | select.POLLHUP
        return any(event & gone for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def give_up_unread() -> bool:
    """Writes out what is left for standard output and error, and drops what nobody reads.

    Returns:
        Whether something was dropped.
    """
    dropped = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            dropped = True
            # Flush: the interpreter does so once more when it ends, and would complain.
            with suppress(OSError, ValueError, AttributeError):
                empty = os.open(os.devnull, os.O_WRONLY)
                os.dup2(empty, stream.fileno())
                os.close(empty)
    return dropped


open_closed_streams()
stop_while_importing()

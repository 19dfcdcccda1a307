"""What a process starts, without the imports: forks of a copy that has them.

Called early in a process that has imported everything and done nothing yet. A copy of it is kept
(Python's own fork server), and what the start method "spawn" or `subprocess.Popen` would start as
an interpreter is a fork of that copy: it knows as little of its parent as one that starts from
nothing, gets what it is to do by pickle, and has its parent's environment, session, output and
signals that are held back; its exit status is told.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, reduction
from multiprocessing import process as processes
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any


class _Process(ForkServerProcess):
    def start(self) -> None:
        self._environment = dict(os.environ)
        self._held_back = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._held_back)
        super().run()


class _Context(ForkServerContext):
    _name = "spawn"
    Process = _Process


class ForkedPopen(subprocess.Popen):
    """`subprocess.Popen` of a script or module of Python as a fork; of all else the real one."""

    _forked: ForkServerProcess | None = None

    def _execute_child(self, *args: Any) -> None:
        real = super()._execute_child
        asked = inspect.signature(real).bind(*args).arguments
        command = _python_command(asked["args"])
        if command is None or asked["preexec_fn"] or asked["pass_fds"]:
            real(*args)
            return
        environment = os.environ if asked["env"] is None else asked["env"]
        streams = _Streams(*(asked[name] for name in ("p2cread", "c2pwrite", "errwrite")))
        self._forked = multiprocessing.get_context("forkserver").Process(
            target=_run_forked,
            args=(
                command,
                os.fspath(asked["cwd"] or os.getcwd()),
                {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()},
                streams,
                asked["start_new_session"],
            ),
        )
        with _no_main():
            self._forked.start()
        # Children of multiprocessing are told of signals, and waited for at the end.
        processes._children.discard(self._forked)
        self.pid, self._child_created = self._forked.pid, True
        self._close_pipe_fds(*(asked[name] for name in _PIPES))

    def _internal_poll(self, *args: Any, **options: Any) -> int | None:
        if self._forked is None:
            return super()._internal_poll(*args, **options)
        if self.returncode is None:
            self._forked.join(0)
            self.returncode = self._forked.exitcode
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._forked is None:
            return super()._wait(timeout)
        self._forked.join(timeout)
        if self._internal_poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode


@contextmanager
def _no_main() -> Iterator[None]:
    """Processes that are started in the block do not import this one's script."""
    real = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = real


_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class _Streams:
    """Standard input, output and error for a process that is to be forked; -1 for its parent's."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __getstate__(self) -> dict[str, Any]:
        # Pickled where the process is started.
        return {"handles": [fd if fd == -1 else reduction.DupFd(fd) for fd in self.numbers]}

    def take(self) -> None:
        for number, handle in enumerate(self.handles):
            if handle != -1:
                os.dup2(handle.detach(), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - Python's server has closed it


def _python_command(args: Any) -> list[str] | None:
    """What follows the interpreter and its option -u; None for all that is no script or module."""
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        return None
    words = [os.fspath(arg) for arg in args]
    if words[:1] != [sys.executable]:
        return None
    words = words[2:] if words[1:2] == ["-u"] else words[1:]
    return words if words and (words[0] == "-m" or words[0].endswith(".py")) else None


def _run_forked(
    command: list[str],
    cwd: str,
    environment: dict[str, str],
    streams: _Streams,
    new_session: bool,
) -> None:
    if new_session:
        os.setsid()
    streams.take()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    become(command, cwd, environment)


def become(command: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Runs ``python COMMAND`` in this process, which was forked for it and has done nothing yet."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # Module search path: an interpreter that starts from nothing reads this variable.
    wanted = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in wanted if path and path not in sys.path]
    # The command is to find what a process finds that nobody has forked.
    multiprocessing.set_start_method(None, force=True)
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def fork_what_is_started() -> None:
    """From now on this process starts forks of itself as it is now, and no interpreters."""
    listener = socket.socket(socket.AF_UNIX)
    # Abstract namespace: nothing is left in a folder.
    listener.bind(f"\0vice-tests-{os.getpid()}-{os.urandom(8).hex()}")
    listener.listen()
    alive, held = os.pipe()
    parent = os.getpid()
    copy = os.fork()
    if copy == 0:
        os.close(held)
        _serve(listener.detach(), alive, parent)
    os.close(alive)
    server = forkserver._forkserver
    server._forkserver_address = listener.getsockname()
    server._forkserver_alive_fd = held
    server._forkserver_pid = copy
    listener.close()
    multiprocessing.context._concrete_contexts["spawn"] = _Context()
    subprocess.Popen = ForkedPopen


def _serve(listener: int, alive: int, parent: int) -> None:
    try:
        # Process group: what its parent handles must not end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGCHLD})
        # The kernel tells forks of the end of who forked them; that is to be their parent's end.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() == parent:
            forkserver.main(listener, alive, [])
    finally:
        os._exit(0)

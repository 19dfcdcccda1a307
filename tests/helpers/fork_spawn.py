"""Start method "spawn" without the imports: processes that are forked from one that has them.

Called early in a process that has imported everything and done nothing yet. A copy of it is kept
(Python's own fork server), and what is spawned later is a fork of that copy: it knows as little of
its parent as an interpreter that starts from nothing, gets what it is to do by pickle, and has its
parent's environment, session, output and signals that are held back, and its exit status is told.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess


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


def fork_what_is_spawned() -> None:
    """From now on the start method "spawn" of this process forks a copy of it as it is now."""
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

"""Loads, embeds, segments and saves where a part of Unix is missing; see test_other_systems.

Started as ``python -m tests.other_systems RUN``: each situation is a fork that has never imported
ViCE, loses a part of the system, and then imports it. A line ``NAME: whole`` or what failed.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import safetensors.torch
import torch
import torchvision

_POSIX = [
    name
    for name in dir(signal)
    if name.startswith("SIG")
    and name not in ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV")
    and not name.startswith("SIG_")
]


def _modules(*names: str) -> Callable[[], None]:
    return lambda: sys.modules.update(dict.fromkeys(names))


def _attributes(module: object, *names: str) -> Callable[[], None]:
    def hide() -> None:
        for name in names:
            if hasattr(module, name):
                delattr(module, name)

    return hide


def _closed_folders() -> None:
    """Folders cannot be opened, as on Windows."""
    real = os.open

    def refuse(path, *args, **options):
        if not isinstance(path, int) and os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **options)

    os.open = refuse
    shutil._use_fd_functions = False


def _no_links() -> None:
    def refuse(*args, **options):
        raise OSError(1314, "A required privilege is not held by the client")

    os.symlink = os.link = refuse


def _no_proc() -> None:
    real = open

    def refuse(path, *args, **options):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file", path)
        return real(path, *args, **options)

    import builtins
    import io

    builtins.open = io.open = refuse


SITUATIONS: dict[str, list[Callable[[], None]]] = {
    "fcntl": [_modules("fcntl")],
    "resource": [_modules("resource")],
    "users": [
        _modules("pwd", "grp"),
        _attributes(os, "getuid", "geteuid", "getgid", "getegid", "getlogin", "chown"),
    ],
    "terminals": [_modules("termios", "tty", "pty", "syslog", "readline")],
    "posix-signals": [_attributes(signal, *_POSIX)],
    "alarms": [
        _attributes(
            signal, "alarm", "setitimer", "pause", "pthread_sigmask", "pthread_kill", "sigwait"
        )
    ],
    "processes": [
        _attributes(os, "fork", "forkpty", "getpgid", "killpg", "setsid", "wait4", "nice")
    ],
    "flags-of-files": [
        _attributes(os, "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_DIRECTORY", "O_SYNC")
    ],
    "facts": [
        _attributes(os, "uname", "sysconf", "sched_getaffinity", "getloadavg", "statvfs", "mkfifo")
    ],
    "errors": [_attributes(errno, "EDQUOT", "ESTALE", "ENOTSUP", "EOPNOTSUPP")],
    "folders-that-open": [_closed_folders],
    "links": [_no_links],
    "proc": [_no_proc],
}
SITUATIONS["all of them"] = [hide for parts in SITUATIONS.values() for hide in parts]


def _use(run: str) -> None:
    import vice
    from vice.checkpoint import save_run
    from vice.folder_lock import sole_writer
    from vice.metering import StepMeter
    from vice.preemption import watch_signals

    image = np.zeros((20, 24, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.png")
        PIL.Image.fromarray(image).save(path)
        predictor = vice.load(run)
        assert predictor.embed(path).shape[1:] == (20, 24)
        assert predictor.segment(image).shape == (20, 24)
        checkpoint = predictor.checkpoint
        save_run(folder, checkpoint.embedder, checkpoint.prototypes)
        vice.load(folder, device="cpu")
        with sole_writer(Path(folder)), watch_signals(), StepMeter().step("one"):
            pass


def _try(name: str, run: str) -> None:
    leave = os._exit
    try:
        for hide in SITUATIONS[name]:
            hide()
        _use(run)
        ending = "whole"
    except BaseException:
        ending = repr(traceback.format_exc())
    sys.stdout.write(f"{name}: {ending}\n")
    sys.stdout.flush()
    leave(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert torchvision and cv2 and safetensors.torch
    assert not any(name.partition(".")[0] == "vice" for name in sys.modules)
    for situation in SITUATIONS:
        child = os.fork()
        if not child:
            _try(situation, sys.argv[1])
        os.waitpid(child, 0)

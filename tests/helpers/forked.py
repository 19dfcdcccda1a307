"""Commands as processes of their own that are spared the imports.

Importing PyTorch, VISSL and MMSegmentation takes a process several times as long as a tiny
training. Here a server imports them once, and every command is a fork of it that runs like
``python COMMAND``: with its own arguments, environment, folder, output and exit status. What such
a command starts is spared the imports as well (`tests.helpers.fork_spawn`), unless a test asks for
interpreters of its own. Processes that start from nothing are tested wherever tests use
``subprocess``.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.helpers.fork_spawn import become, fork_what_is_started

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = (
    "vice.plugins.vissl.train",
    "vice.plugins.mmseg.evaluate_clusters",
    "vice.plugins.mmseg.evaluate_linear",
    "vice.plugins.mmseg.finetune",
    "torch.utils.tensorboard",
    "timm",
    # Last: freezes what all others have made.
    "tests.helpers.frozen",
)


class Forked:
    """A command that runs.

    Args:
        command: A script, or ``-m`` and a module, and its arguments.
        cwd: Where it runs.
        file_bytes: Limit on the size of each file that it writes.
        real_spawn: Whether what it starts are interpreters that start from nothing.
        own_session: Whether it leads a session of its own, as a shell's command leads a group,
            and takes signals as a command at a terminal does.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path = ROOT,
        file_bytes: int | None = None,
        own_session: bool = False,
        real_spawn: bool = False,
        **environment: str,
    ) -> None:
        self.command = [str(part) for part in command]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [os.path.join(self._folder.name, name) for name in ("stdout", "stderr")]
        arguments = (self.command, str(cwd), {**os.environ, **environment}, self._files, file_bytes)
        arguments = (*arguments, own_session, real_spawn)
        self._process: ForkServerProcess = server().Process(target=_become, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process, and its group if that is its own."""
        return int(self._process.pid or 0)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """How it ended, as `subprocess.run` tells it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.command, timeout)
        texts = [Path(file).read_text() for file in self._files]
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.command, self._process.exitcode, *texts)


@cache
def server() -> ForkServerContext:
    """Starts processes that have imported all of ``IMPORTED``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _become(
    command: list[str],
    cwd: str,
    environment: dict[str, str],
    files: list[str],
    file_bytes: int | None,
    own_session: bool,
    real_spawn: bool,
) -> None:
    if own_session:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if not real_spawn:
        fork_what_is_started()
    become(command, cwd, environment)

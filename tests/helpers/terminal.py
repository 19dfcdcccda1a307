"""Starts commands as a shell at a terminal does, for what a terminal may do to them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.helpers.processes import ROOT


def at_a_terminal(command: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """A command in a session of its own, which takes signals whatever this process ignores."""
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=take_signals,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "CUDA_VISIBLE_DEVICES": "",
        },
        **options,
    )


def take_signals() -> None:
    """Nothing is ignored, as at the start of a shell's command."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)

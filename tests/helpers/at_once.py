"""Starts commands at the same time, without the seconds that their imports take.

Reads JSON from standard input: a list of races, each a list of ``[delay, words]``, the words those
of ``vice``. Prints JSON: for each race and command its exit status and what it said.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack

import vice.explore.build_explorer
import vice.explore.export_masks
import vice.explore.segment_folder
import vice.explore.select_images  # noqa: F401
from vice.__main__ import main


def begin(delay: float, words: list[str], out: int) -> int:
    """Number of a process that becomes a command."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        time.sleep(delay)
        sys.argv = ["vice", *words]
        status = int(main() or 0)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def race(commands: list[tuple[float, list[str]]]) -> list[tuple[int, str]]:
    """Exit status and output of each."""
    with ExitStack() as open_files:
        files = [open_files.enter_context(tempfile.TemporaryFile("w+")) for _ in commands]
        processes = [
            begin(delay, words, file.fileno())
            for (delay, words), file in zip(commands, files, strict=True)
        ]
        ends = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]
        for file in files:
            file.seek(0)
        return list(zip(ends, [file.read() for file in files], strict=True))


if __name__ == "__main__":
    found = [race(commands) for commands in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(found) + "\n")

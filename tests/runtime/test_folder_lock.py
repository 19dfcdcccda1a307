"""Two runs in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vice.errors import UserError
from vice.runtime.folder_lock import sole_launcher, sole_writer
from vice.runtime.run_folder import LOCK_NAME

HOLD = """
    import sys
    from pathlib import Path
    from vice.runtime.folder_lock import sole_launcher, sole_writer
    with {lock}(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
"""


def held(folder, lock):
    script = textwrap.dedent(HOLD.format(lock=lock))
    process = subprocess.Popen(
        [sys.executable, "-c", script, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("lock", ["sole_launcher", "sole_writer"])
def test_who_waits_says_for_whom_and_gives_up(tmp_path, caplog, lock):
    other = held(tmp_path, lock)
    who = f"process {other.pid} on {socket.gethostname()}"
    with pytest.raises(UserError, match=who), sole_launcher(tmp_path, wait=0.5):
        pass
    (line,) = caplog.messages
    assert line.startswith("waiting up to 0 s for ")
    assert who in line and str(tmp_path) in line
    other.communicate("\n")
    with sole_launcher(tmp_path, wait=0.5), sole_writer(tmp_path, wait=0.5):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()


def test_a_writer_whose_launcher_was_killed_is_waited_for(tmp_path):
    writer = held(tmp_path, "sole_writer")
    with pytest.raises(UserError, match=str(writer.pid)), sole_launcher(tmp_path, wait=0.3):
        pass
    writer.kill()
    writer.wait()
    with sole_launcher(tmp_path, wait=5):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"), sole_launcher(tmp_path / "file" / "run"):
        pass


def test_what_is_held_is_held_for_what_is_called(tmp_path):
    with sole_writer(tmp_path):
        with sole_writer(tmp_path / "." / "", wait=0):
            pass
        # Of another thread it is none.
        with ThreadPoolExecutor(1) as pool, pytest.raises(UserError, match="another process"):
            pool.submit(lambda: sole_writer(tmp_path, wait=0).__enter__()).result()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: sole_writer(tmp_path, wait=0).__enter__()).result()


def test_who_has_waited_for_a_folder_that_is_gone_makes_it_anew(tmp_path):
    """And is then not beside one who came after it was gone."""
    folder = tmp_path / "part"
    other = held(folder, "sole_writer")
    with ThreadPoolExecutor(1) as pool:
        waiting = sole_writer(folder)
        entered = pool.submit(waiting.__enter__)
        time.sleep(0.5)
        assert not entered.done()
        shutil.rmtree(folder)
        other.communicate("\n")
        entered.result(30)
        with pytest.raises(UserError, match=str(os.getpid())), sole_writer(folder, wait=0.1):
            pass
        assert (folder / LOCK_NAME).exists()
        pool.submit(waiting.__exit__, None, None, None).result(30)


@pytest.mark.parametrize("lock", ["sole_launcher", "sole_writer"])
def test_who_waits_to_launch_is_asked_whether_to_go_on(lock, tmp_path):
    class StoppedError(Exception):
        pass

    asked = []

    def stopped():
        asked.append(time.monotonic())
        if len(asked) > 1:
            raise StoppedError

    process = held(tmp_path, lock)
    try:
        start = time.monotonic()
        with pytest.raises(StoppedError), sole_launcher(tmp_path, stopped=stopped):
            pass
        assert time.monotonic() - start < 10
    finally:
        process.communicate("\n", timeout=60)
    with sole_launcher(tmp_path, stopped=stopped):
        pass

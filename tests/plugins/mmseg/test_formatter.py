"""YAPF's cache while another process writes it, in processes of their own."""

import os
import subprocess
import sys
import threading
import time

import pytest

from vice.plugins.mmseg import formatter

#: Not by its name, which would import MMSegmentation each time.
IMPORT = f"import runpy; runpy.run_path({formatter.__file__!r})['import_formatter']()"


def run(cache, code=IMPORT):
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture
def grammars(tmp_path):
    """The cache of a process that was alone."""
    assert run(tmp_path).returncode == 0
    files = sorted(tmp_path.rglob("*.pickle"))
    assert len(files) == 2
    return files


@pytest.mark.parametrize("part", [0.0, 0.5])
@pytest.mark.parametrize("number", [0, 1])
def test_waits_for_the_rest_of_a_grammar(grammars, number, part, tmp_path):
    whole = grammars[number].read_bytes()
    grammars[number].write_bytes(whole[: int(part * len(whole))])
    plain = run(tmp_path, "import yapf.yapflib.yapf_api")
    assert plain.returncode == 1 and ("EOFError" in plain.stderr or "Unpickling" in plain.stderr)

    def write():
        time.sleep(1)
        grammars[number].write_bytes(whole)

    writer = threading.Thread(target=write)
    writer.start()
    read = run(tmp_path)
    writer.join()
    assert read.returncode == 0, read.stderr


def test_a_grammar_that_stays_cut_off_is_named(grammars, tmp_path):
    grammars[1].write_bytes(b"")
    failed = run(tmp_path)
    assert failed.returncode == 1
    assert f"{tmp_path / 'YAPF'}: a cached grammar of YAPF is cut off" in failed.stderr

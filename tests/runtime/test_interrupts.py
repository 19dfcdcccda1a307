"""Ctrl-C and `| head` in real commands."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from tests.helpers.processes import ROOT
from tests.helpers.terminal import at_a_terminal, take_signals
from vice.runtime.interrupts import INTERRUPTED, TERMINATED
from vice.runtime.preemption import SIGNALS, STOPPED

TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))
#: Says that it is ready, and is then interrupted.
START = """
    import sys, time, warnings
    from vice.cli import run

    warnings.simplefilter("ignore")

    def ready():
        print("ready", flush=True)

"""


def interrupted(body: str, times: int = 1, pause: float = 0.3, number: int = signal.SIGINT):
    """Status, standard error and seconds of a script that gets a signal once it is ready."""
    script = textwrap.dedent(START) + textwrap.dedent(body)
    process = at_a_terminal([sys.executable, "-c", script])
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    for _ in range(times):
        time.sleep(pause)
        # One that has ended already was not to be kept from it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - start


@pytest.mark.parametrize(
    "body",
    [
        "run(lambda: (ready(), time.sleep(60)))",
        # Threads, as prepare_data has them.
        """
        from vice.datasets.archives import in_threads
        run(lambda: (ready(), in_threads(lambda _: time.sleep(0.5), range(400), "x", 4)))
        """,
        # Forked data loaders, as the evaluations have them.
        """
        from torch.utils.data import DataLoader
        class Slow:
            def __len__(self): return 1000
            def __getitem__(self, index):
                if index == 8:
                    ready()
                time.sleep(0.05)
                return index
        run(lambda: list(DataLoader(Slow(), num_workers=2)) and None)
        """,
        # A process that is begun later, and one that ignores its end for a while.
        """
        import multiprocessing
        def main():
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            process.daemon = True
            process.start()
            ready()
            process.join()
        run(main)
        """,
    ],
)
def test_ctrl_c_is_one_word(body):
    status, said, seconds = interrupted(body)
    assert (status, said) == (INTERRUPTED, "stopped\n")
    assert seconds < 10


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]
)
def test_a_command_that_is_stopped_says_what_it_leaves(number, status):
    """Whoever asks it; what it has opened is closed, and its forked processes end as ever."""
    body = """
    import multiprocessing
    def main():
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join()
        assert process.exitcode == -15
        try:
            ready()
            time.sleep(60)
        finally:
            sys.stderr.write("closed\\n")
    run(main, kept="results stay, and the same command goes on")
    """
    found, said, seconds = interrupted(body, number=number)
    assert found == status
    assert said == "closed\nstopped: results stay, and the same command goes on\n"
    assert seconds < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "raised",
    [
        "ImportError('PyCapsule_Import could not import module')",
        "SystemError('returned a result with an exception set')",
        "OSError(28, 'No space left on device')",
        "UserError('timm is missing: pip install timm')",
        "OptionError('{dim} must be positive', dim=3)",
    ],
)
def test_an_interrupt_that_has_become_another_exception_is_one_word(raised, number):
    """As NumPy's C code makes of one that meets it while it is imported."""
    body = f"""
    from vice.errors import OptionError, UserError
    def main():
        ready()
        try:
            time.sleep(60)
        except KeyboardInterrupt as interrupt:
            raise {raised} from interrupt
    run(main, kept="nothing is lost")
    """
    assert interrupted(body, number=number)[:2] == (128 + number, "stopped: nothing is lost\n")


def test_a_pool_is_silent_too(tmp_path):
    """The processes of the superpixel cache, which are spawned, also while they start."""
    script = tmp_path / "fill.py"
    script.write_text(
        textwrap.dedent(START)
        + textwrap.dedent(
            """
            import multiprocessing, os
            from vice.superpixels import fill as region_filling

            class Slow:
                method, cache = "slic", object()
                def __init__(self, **options): pass

            def slow(path):
                time.sleep(60)

            region_filling.Superpixels = Slow
            region_filling._fill_one = slow
            if __name__ == "__main__":
                ready()
                options = {"cache_dir": "x"}
                run(lambda: region_filling.fill_cache(["60"] * 9, {}, options, workers=2))
            """
        )
    )
    process = at_a_terminal([sys.executable, script])
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (INTERRUPTED, "stopped\n")


def test_a_second_ctrl_c_ends_what_has_swallowed_the_first():
    body = """
    def main():
        ready()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                time.sleep(1)
            except BaseException:
                pass
    run(main)
    """
    status, said, seconds = interrupted(body, times=2)
    assert (status, said) == (INTERRUPTED, "stopped\n")
    assert seconds < 10


#: What still runs when all has been said: other libraries' clearing up, the interpreter's own.
ENDINGS = (
    """
    import atexit
    atexit.register(lambda: (ready(), time.sleep(1)))
    """,
    """
    class Slow:
        def __del__(self, ready=ready, sleep=time.sleep, end=sys.__stdout__):
            end.write("ready\\n"), end.flush(), sleep(1)
    kept = Slow()
    """,
)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("ending", ENDINGS, ids=["functions", "objects"])
def test_a_signal_after_the_end_changes_neither_words_nor_status(ending, number):
    """A run that has saved itself is to be queued again, whoever asks once more."""
    body = f"""
    {ending}
    def main():
        raise Preempted("saved")
    from vice.runtime.preemption import Preempted
    run(main)
    """
    assert interrupted(body, number=number, times=2, pause=0.1)[:2] == (STOPPED, "saved\n")


@pytest.fixture
def labelled(tmp_path):
    for folder in ("images/train", "images/val", "labels/train", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_text("dark\n")
    return tmp_path


@pytest.mark.parametrize("way", ["script", "module"])
@pytest.mark.parametrize("last", ["vice.runtime.interrupts", "vice.runtime.answers", "argparse"])
def test_ctrl_c_before_a_word_has_begun(last, way):
    """From its first imports on, long before the word's own."""
    script = shutil.which("vice", path=os.path.dirname(sys.executable))
    if way == "script" and script is None:
        pytest.skip("vice is not installed as a script")
    start = [script] if way == "script" else ["-m", "vice"]
    process = at_a_terminal([sys.executable, "-X", "importtime", *start, "segment", "x", "y"])
    # A line an import, as soon as it has ended.
    for line in process.stderr:
        if line.split("|")[-1].strip() == last:
            os.killpg(process.pid, signal.SIGINT)
            break
    _, said = process.communicate(timeout=60)
    lines = [line for line in said.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, lines) == (INTERRUPTED, ["stopped"])


@pytest.mark.parametrize("tool", ["run_distributed.py", "demo.py", "eval_linear.py", "compare.py"])
def test_ctrl_c_while_a_tool_imports(tool, labelled):
    arguments = {
        "run_distributed.py": ["config=vice/folder"],
        "demo.py": ["--out", "/nowhere/x"],
        "eval_linear.py": ["lab", "--dataset", str(labelled)],
        "compare.py": [str(labelled)],
    }[tool]
    # As soon as NumPy is there, the tool is in the middle of its imports.
    process = at_a_terminal([sys.executable, ROOT / "tools" / tool, *arguments])
    while process.poll() is None and "numpy" not in _maps(process.pid):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, said
    assert len(said.splitlines()) == 1 and said.startswith("stopped"), said


def test_ctrl_c_in_the_middle_of_an_import_of_pytorch():
    """It has then registered what it tells at the end, but not how much of it."""
    body = """
    class Watch:
        def find_spec(self, name, *_):
            module = sys.modules.get("torch._subclasses.fake_tensor")
            if hasattr(module, "dump_cache_stats") and sys.meta_path[0] is self:
                sys.meta_path.remove(self)
                ready()
                time.sleep(60)

    def main():
        assert "torch" not in sys.modules
        sys.meta_path.insert(0, Watch())
        import torch
    run(main)
    """
    assert interrupted(body)[:2] == (INTERRUPTED, "stopped\n")


def _maps(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/maps") as file:
            return file.read()
    except OSError:
        return ""


@pytest.mark.parametrize("tool", TOOLS)
def test_a_reader_who_has_seen_enough(tool):
    command = [sys.executable, str(ROOT / "tools" / tool), "--help"]
    reader, writer = os.pipe()
    process = subprocess.Popen(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writer)
    os.close(reader)
    said = process.communicate(timeout=120)[1]
    assert said == "" and process.returncode in (0, 141)


def test_a_long_output_ends_with_its_reader():
    script = "from vice.cli import run\nrun(lambda: [print(i) for i in range(10**6)] and None)"
    command = f"{sys.executable} -c '{script}' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("0\n141\n", "")


@pytest.mark.parametrize(
    ("end", "status"),
    [("print('x')", 141), ("show('x')", 0), ("raise UserError('x')", 2)],
)
def test_a_lost_terminal_changes_no_exit_status(end, status):
    main, other = pty.openpty()
    script = (
        "import time\nfrom vice.cli import run, show\nfrom vice.errors import UserError\n"
        f"def main():\n    time.sleep(0.3)\n    {end}\nrun(main)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=other, stdout=other, stderr=other, cwd=ROOT,
        preexec_fn=take_signals, start_new_session=True,
    )  # fmt: skip
    os.close(other)
    os.close(main)
    assert process.wait(60) == status


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_get_no_file_of_a_command(closed, tmp_path):
    """Else the next file that it opens would take in what libraries print."""
    script = """
import os, sys
from vice.cli import run, show

def main():
    with open(sys.argv[1], "w") as file:
        os.system("echo of a library; echo of another >&2")
        print("printed")
        show("shown")
        sys.stderr.write("told")
        file.write(str(file.fileno() > 2))
    assert sys.stdin.read() == ""

run(main)
"""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", script]
    done = subprocess.run(
        [*command, str(tmp_path / "file")], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "True"

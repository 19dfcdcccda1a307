from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from vice.cli import Parser, run
from vice.errors import UserError

TOOLS = Path(__file__).resolve().parents[1] / "tools"


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("a.png: class 31: out of range")


def fail():
    raise UserError("x.png: broken;\n remove it")


def fail_in_worker():
    list(DataLoader(Broken(), num_workers=1))


@pytest.mark.parametrize(
    ("main", "status", "message"),
    [
        (fail, 2, "error: x.png: broken; remove it\n"),
        (fail_in_worker, 2, "error: a.png: class 31: out of range\n"),
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
    ],
)
def test_exit_status_and_message(main, status, message, capfd):
    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == status
    assert capfd.readouterr().err == message


@pytest.mark.parametrize("leave", ["sys.exit()", "sys.exit(0)", "sys.exit(3)", "raise SystemExit"])
def test_code_of_somebody_else_that_ends_the_process_has_failed(leave, tmp_path, capfd):
    """A network may be called from anywhere."""
    place = tmp_path / "network.py"
    code = compile(f"import sys\ndef forward():\n    {leave}\n", place, "exec")
    scope = {"__name__": "network"}
    exec(code, scope)
    with pytest.raises(SystemExit) as stop:
        run(scope["forward"])
    assert stop.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {place}, line 3, has called sys.exit(")


@pytest.mark.parametrize("status", [0, 5])
def test_a_command_and_its_parser_may_end_the_process(status):
    scope = {"__name__": "__main__", "status": status}
    exec("def main():\n    raise SystemExit(status)", scope)
    for main in (scope["main"], lambda: Parser().exit(status)):
        with pytest.raises(SystemExit) as stop:
            run(main)
        assert stop.value.code == status


def test_ctrl_c_and_bugs():
    def stop():
        raise KeyboardInterrupt

    def bug():
        raise ValueError("a bug")

    with pytest.raises(SystemExit) as end:
        run(stop)
    assert end.value.code == 130
    with pytest.raises(ValueError, match="a bug"):
        run(bug)


def test_no_option_is_dropped_where_it_is_given_twice(capsys):
    parser = Parser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=["x"])
    parser.add_argument("--row", action="append", default=[])
    parser.add_argument("more", nargs="*")
    words = ["a", "b", "--set", "1", "2", "--row", "r", "--seed", "5", "--set", "3", "--row", "s"]
    for _ in range(2):  # What one call was given is not held against the next.
        found = parser.parse_args(words)
        assert (found.set, found.row, found.seed, found.more) == (
            ["1", "2", "3"], ["r", "s"], 5, ["a", "b"],
        )  # fmt: skip
    assert parser.parse_intermixed_args(["a", "--seed", "1", "b"]).more == ["a", "b"]
    assert parser.parse_args([]).set == ["x"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--seed", "1", "--seed=1"])
    assert "--seed: given twice, as 1 and as 1" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "wanted"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_while_they_wait_unless_the_environment_says_otherwise(given, wanted):
    """And PyTorch, which reads it when it is imported, is not there before a command begins."""
    text = (
        "import os, sys; from vice.cli import run; "
        "run(lambda: print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY']))"
    )
    environment = {**os.environ, **({"OMP_WAIT_POLICY": given} if given else {})}
    if given is None:
        environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["False", wanted]


def test_no_command_imports_torch_before_it_runs():
    """What OpenMP is to know has to be said before."""
    tools = sorted(path.stem for path in TOOLS.glob("*.py"))
    text = f"import sys, vice.command.console, {', '.join(tools)}; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOOLS.parent), str(TOOLS)])}
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=True
    )
    assert len(tools) > 10 and done.stdout.split() == ["False"]


def test_a_working_directory_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    code = f"import os; os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    for words in (["-m", "vice", "info"], [str(TOOLS / "score.py"), "lab", "--linear"]):
        run_it = f"{code}os.execv({sys.executable!r}, {[sys.executable, *words]!r})"
        done = subprocess.run(
            [sys.executable, "-c", run_it],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TOOLS.parent)},
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: the working directory cannot be used (No such file")
        assert done.stderr.count("\n") == 1

"""Which program installs a pinned list, in which order, and what is done where one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.terminal import at_a_terminal

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "install.sh"
LIST = "classy-vision==0.7.0\nnumpy==2.0\ntorch==2.14.1\nvissl==0.1.6\n"
#: Stands for the environment's interpreter: notes how it is called, and gives what pip would.
PYTHON = """#!/bin/sh
case "$*" in
    *"config list"*) echo "$PIP_SETTINGS" ;;
    *--target*)
        [ -n "$NO_UV" ] && { echo "no such package" >&2; exit 1; }
        while [ "$1" != --target ]; do shift; done
        mkdir -p "$2/bin"
        printf '%s\\n' '#!/bin/sh' 'for last; do :; done' \\
            'echo "uv $(tr "\\n" " " <"$last")" >>"$NOTES"' \\
            'echo "certificates $SSL_CERT_FILE" >>"$NOTES"' 'exit $UV_STATUS' >"$2/bin/uv"
        chmod +x "$2/bin/uv" ;;
    *compileall*) echo "byte code" >>"$NOTES" ;;
    *)
        for last; do :; done
        lines=$(cat "$last" | tr "\\n" " ")
        echo "pip $lines" >>"$NOTES"
        case "$lines" in *"$PIP_FAILS"*) exit ${PIP_STATUS:-0} ;; esac ;;
esac
"""
BY_UV = ["uv vissl==0.1.6", "uv classy-vision==0.7.0 numpy==2.0 torch==2.14.1"]
BY_PIP = ["pip vissl==0.1.6", "pip classy-vision==0.7.0 numpy==2.0", "pip torch==2.14.1"]


def install(tmp_path, **environment):
    """Status, what was called, and what was said."""
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "list.txt").write_text(LIST)
    notes = tmp_path / "notes"
    variables = {"UV_STATUS": "0", "NOTES": str(notes), **environment}
    left = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run(
        ["bash", SCRIPT, "environment", "list.txt"],
        cwd=tmp_path, env={**left, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert not (tmp_path / "environment" / ".install").exists()
    lines = [line.strip() for line in notes.read_text().splitlines()]
    return done.returncode, lines, done.stderr


def installed(lines):
    """The calls that install, those of two processes at once in a fixed order."""
    calls = [line for line in lines if line.startswith(("uv", "pip"))]
    return [*calls[:1], *sorted(calls[1:])]


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "global.extra-index-url='file:///wheels'",
        ":env:.find-links='/wheels'\nglobal.timeout='3'",
    ],
)
def test_uv_installs_vissl_first(tmp_path, settings):
    status, lines, _ = install(tmp_path, PIP_SETTINGS=settings)
    assert status == 0 and installed(lines) == BY_UV and lines[-1] == "byte code"


def test_it_trusts_the_certificates_that_pip_trusts(tmp_path):
    _, lines, _ = install(tmp_path, PIP_SETTINGS="global.cert='/our/own.pem'")
    assert "certificates /our/own.pem" in lines


@pytest.mark.parametrize(
    "settings",
    ["global.index-url='https://mirror'", ":env:.no-index='1'", "site.proxy='http://gate:3128'"],
)
def test_who_has_told_pip_where_packages_are_gets_pip(tmp_path, settings):
    status, lines, said = install(tmp_path, PIP_SETTINGS=settings)
    assert status == 0 and installed(lines) == BY_PIP and lines[-1] == "byte code" and not said


@pytest.mark.parametrize(("fault", "tried"), [({"NO_UV": "1"}, 0), ({"UV_STATUS": "2"}, 1)])
def test_where_uv_fails_pip_installs(tmp_path, fault, tried):
    status, lines, said = install(tmp_path, **fault)
    calls = [line for line in lines if not line.startswith("certificates")]
    assert status == 0 and calls[:tried] == BY_UV[:tried]
    assert installed(calls[tried:]) == BY_PIP
    assert all(line.startswith("uv: ") for line in said.splitlines())


@pytest.mark.parametrize("part", ["vissl", "torch", "numpy"])
def test_where_pip_fails_too_nothing_is_called_installed(tmp_path, part):
    status, lines, _ = install(tmp_path, NO_UV="1", PIP_FAILS=part, PIP_STATUS="3")
    assert status == 3 and "byte code" not in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_installs_nothing_more(tmp_path, number):
    """pip answers Ctrl-C as any failure; nothing may begin after it."""
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    slow = 'case "$*" in *config*) ;; *) echo "$*" >>notes; sleep 60; exit 1 ;; esac\n'
    python.write_text(f"#!/bin/sh\n{slow}")
    python.chmod(0o755)
    (tmp_path / "list.txt").write_text(LIST)
    command = ["bash", SCRIPT, "environment", "list.txt"]
    with at_a_terminal(command, cwd=tmp_path) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "notes").exists() and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(process.pid, number)
        assert process.wait(30) == 130
    assert len((tmp_path / "notes").read_text().splitlines()) == 1
    assert not (tmp_path / "environment" / ".install").exists()

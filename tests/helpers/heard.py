"""Part of programs that run command lines in one process without the frameworks."""

from __future__ import annotations

#: Source of ``heard``, to follow what hides modules; no folder of tests can be imported there.
HEARD = """
import contextlib, io, json, sys
from vice import cli
from vice.command import console

def heard(words):
    said = io.StringIO()
    cli.program = None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            console.main(words)
        except SystemExit as end:
            status = end.code
        except ImportError as error:
            status = f"imports {error.name}"
    return json.dumps([status, said.getvalue()])
"""

"""Freed memory: pages are asked of the system once, or each time; who says so, who inherits it."""

import ctypes
import os
import subprocess
import sys

import pytest

from vice.runtime import freed_memory

#: Prints how many pages the system gave while maps of 48 MiB were written one after the other.
WRITE = """
import resource, sys
import torch
from vice.runtime.freed_memory import give_back, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def write():
    before = faults()
    for _ in range(8):
        for size in (3, 12, 12, 7):
            torch.empty(2**20 * size).fill_(1.0)
    return faults() - before

torch.set_num_threads(1)
kept = keep_freed_memory() if "keep" in sys.argv else None
write()
"""
#: Pages of one round of `write`, of 4 KiB.
PAGES = 8 * 34 * 1024

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="not the GNU C library"
)


def told(program: str, *arguments: str, **environment: str) -> list[str]:
    """Words that a process prints, whose environment says nothing of memory but this."""
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    inherited.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", WRITE + program, *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_pages_are_asked_for_once():
    kept, found = told("print(kept, write())", "keep")
    assert kept == "True" and int(found) < 0.02 * PAGES
    (found,) = told("print(write())")
    assert int(found) > 0.2 * PAGES


def test_processes_that_are_forked_inherit_it():
    program = """
import os
if os.fork() == 0:
    write()
    print(write(), flush=True)
    os._exit(0)
os.wait()
"""
    (found,) = told(program, "keep")
    assert int(found) < 0.02 * PAGES


def test_commands_keep_it():
    program = """
from vice.cli import run
run(lambda: print(write(), write()))
"""
    *_, found = told(program)
    assert int(found) < 0.02 * PAGES


def test_what_is_kept_can_be_given_back():
    program = """
def resident():
    return int(open("/proc/self/statm").read().split()[1])

before = resident()
give_back()
print(before - resident())
"""
    (found,) = told(program, "keep")
    assert int(found) > 0.5 * 12 * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "100000"),
        ("MALLOC_MMAP_THRESHOLD_", "100000"),
        ("MALLOC_MMAP_MAX_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=100000"),
    ],
)
def test_what_the_environment_says_holds(name, value):
    kept, found = told("print(kept, write())", "keep", **{name: value})
    assert kept == "False" and int(found) > 0.2 * PAGES


def test_other_tunables_say_nothing_of_it():
    kept, _ = told("print(kept, write())", "keep", GLIBC_TUNABLES="glibc.cpu.x86_shstk=off")
    assert kept == "True"


def test_other_systems_go_on_as_they_do(monkeypatch):
    monkeypatch.setattr(freed_memory, "_of_libc", lambda name: None)
    assert not freed_memory.keep_freed_memory()
    freed_memory.give_back()

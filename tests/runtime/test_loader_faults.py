from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from queue import Queue

import pytest
import torch
from torch.utils.data import DataLoader

from tests.helpers.processes import ROOT
from vice.cli import OPTIONS
from vice.errors import UserError
from vice.plugins.vissl.option_keys import KEYS, spelled
from vice.runtime.loader_faults import (
    _send_error,
    answer_what_cannot_be_sent,
    loader_fault,
)


class Dying:
    """Data whose process ends in the middle."""

    def __init__(self, end):
        self.end = end

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.end()
        return index


def killed(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "end",
    [
        killed(signal.SIGKILL),
        killed(signal.SIGBUS),
        killed(signal.SIGSEGV),
        killed(signal.SIGTERM),
        lambda: os._exit(3),
    ],
)
def test_a_process_that_is_gone_is_named_with_memory_and_dev_shm(end):
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Dying(end), num_workers=1))
    fault = loader_fault(caught.value)
    assert "a data loading process was lost" in str(fault) and "\n" not in str(fault)
    for word in ("memory", "/dev/shm", "(num_workers)"):
        assert word in str(fault)
    for keys, word in ((KEYS, "config.DATA.NUM_DATALOADER_WORKERS"), (OPTIONS, "--workers")):
        assert word in fault.spelled(keys)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to write to file </torch_12_3_0>: No space left on device (28)"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\n"
                     "RuntimeError: unable to mmap 4096 bytes from file </torch_1>: x"),
        RuntimeError("unable to open shared memory object </torch_1> in read-write mode"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("received 0 items of ancdata"),
    ],
)  # fmt: skip
def test_what_pytorch_says_when_memory_or_files_run_out(error):
    assert "num_workers" in str(loader_fault(error))


class Unsendable:
    """Data that a process has, and cannot hand over."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.make() if index >= 2 else torch.zeros(1)


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return torch.zeros(1)


def no_memory():
    class Full:
        def __reduce__(self):
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

    return Full()


def begin(number):
    answer_what_cannot_be_sent()


def fetched(make, seconds=0.0):
    """Whatever comes instead of the batches, the first of which is taken after some seconds."""
    loader = DataLoader(
        Unsendable(make), batch_size=None, num_workers=2, worker_init_fn=begin, timeout=60
    )
    batches = iter(loader)
    found = None
    try:
        time.sleep(seconds)
        list(batches)
    except Exception as error:
        found = error
    # Signal handler: PyTorch tells of a process that is gone wherever its parent is.
    with suppress(RuntimeError):
        batches._shutdown_workers()
    assert found is not None
    return found


@pytest.mark.parametrize("seconds", [0, 2])
def test_files_that_run_out_while_a_batch_is_sent(capfd, seconds):
    """After seconds the first batches have been sent, and their memory is still to be fetched."""
    fault = loader_fault(fetched(few_files, seconds))
    assert "open files" in str(fault) and "ulimit -n" in str(fault)
    assert "resource_sharer" not in capfd.readouterr().err


def test_an_error_of_open_files_is_told_as_such(monkeypatch):
    """However the machine's other processes are at work."""
    sent = Queue()
    _send_error(sent, OSError(errno.EMFILE, "Too many open files"), (3, "batch"))
    with pytest.raises(OSError) as raised:
        sent.get(timeout=1)[1].reraise()
    fault = loader_fault(raised.value)
    assert str(fault).startswith("data loading ran out of open files (")
    assert "Too many open files" in str(fault) and "ulimit -n" in str(fault)


def test_memory_that_runs_out_while_a_batch_is_sent():
    assert str(loader_fault(fetched(no_memory))).startswith("memory or /dev/shm has run out (")


def test_what_cannot_be_pickled_is_told_where_it_was_made():
    error = fetched(lambda: lambda: 0)
    assert "pickle" in str(error) and "timed out" not in str(error)
    assert "in a data loading process" in str(error) and loader_fault(error) is None


def test_an_error_that_cannot_be_sent_ends_its_process(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    sent = Queue()
    _send_error(sent, OSError(errno.EMFILE, "Too many open files"), (3, "batch"))
    index, error = sent.get(timeout=1)
    assert index == 3 and not ended
    _send_error(sent, OSError(errno.EMFILE, "Too many open files"), (index, error))
    assert ended == [1]


def test_a_training_names_its_own_keys_wherever_the_loss_is_noticed():
    gone = RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error. ")
    with pytest.raises(UserError, match=r"config\.DATA\.NUM_DATALOADER_WORKERS"), spelled():
        raise gone
    with pytest.raises(RuntimeError, match="a bug"), spelled():
        raise RuntimeError("a bug")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("size", ["4k", "32k", "400k"])
def test_a_shared_memory_that_is_too_small(size):
    """For the semaphores of the queues, or for a batch; everything else sees the usual one."""
    script = """
import torch
from torch.utils.data import DataLoader
from vice.cli import run
from vice.runtime.files import disk_errors

def main():
    with disk_errors("results"):
        list(DataLoader(torch.zeros(64, 200, 200), batch_size=8, num_workers=2))

run(main)
"""
    mounted = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mounted, "sh", sys.executable]
    # A warning: two processes are more than a machine with one core is meant to have.
    command += ["-W", "ignore:This DataLoader will create", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert "/dev/shm" in done.stderr and "--workers" in done.stderr


def test_what_was_told_is_not_told_again():
    told = loader_fault(OSError(errno.EMFILE, "Too many open files"))
    assert told is not None and loader_fault(told) is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOENT, "No such file or directory"),
        EOFError(),
        ValueError("a bug"),
    ],
)
def test_other_errors_keep_their_own_words(error):
    assert loader_fault(error) is None

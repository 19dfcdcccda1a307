from __future__ import annotations

import errno
import os
import signal

import pytest
from torch.utils.data import DataLoader

from vice.cli import OPTIONS
from vice.plugins.vissl.option_keys import KEYS
from vice.runtime.loader_faults import loader_fault


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

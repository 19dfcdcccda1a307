"""NumPy files, read as numbers: no pickles, no pipes, nothing larger than what is expected."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vice.runtime.regular_file import open_regular

#: Bytes of headers and of small arrays beside the large one.
_SLACK = 2**16
_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(path: str | Path) -> np.ndarray:
    """Reads a ``.npy`` file.

    Raises:
        OSError: It cannot be opened.
        ValueError: It holds no numbers.
        UserError: It is no regular file.
    """
    with open_regular(path) as file:
        # Single array: not numpy.load, which takes an archive for a mapping.
        return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def open_npz(path: str | Path, max_bytes: int) -> Iterator[Any]:
    """Opens a ``.npz`` file.

    Args:
        path: The file.
        max_bytes: Most bytes that its arrays may take in memory.

    Yields:
        What `numpy.load` gives, a mapping of names to arrays.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no such file, holds no numbers, or would unpack to more.
        zipfile.BadZipFile: It is not whole.
        UserError: It is no regular file.
    """
    with open_regular(path) as file:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
        size = sum(record.file_size for record in records)
        if size > max_bytes + _SLACK:
            raise ValueError(f"would unpack to {size} bytes, and {max_bytes} are expected")
        if any(record.compress_type not in _PACKING for record in records):
            raise ValueError("is packed in a way NumPy does not")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays

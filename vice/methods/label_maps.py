"""An epoch's labels of every image in one file, written by one process and read by all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from vice.labels import IGNORE
from vice.runtime.collectives import all_gather, on_first_rank, rank
from vice.runtime.device import Arriving
from vice.runtime.files import disk_errors


class LabelWriter:
    """Writes maps of uint8 labels as they come, of all ranks, and shows the file when it is whole.

    The ranks hand theirs to the first one: several writers of one file lose each other's pages on
    network file systems. What is written goes to the disk, not through mapped memory, where a full
    disk would be a signal and not an error.

    Args:
        path: The ``.npy`` file.
        shape: (N, ...), all maps; those that never come hold ``IGNORE``.
        most: Maps that a rank hands over at a time at most.
        device: Where collectives take their tensors.
    """

    def __init__(self, path: Path, shape: Sequence[int], most: int, device: torch.device) -> None:
        self.path, self.shape, self.most, self.device = path, tuple(shape), most, device
        # Runs that start remove what a killed one left under this ending.
        self.part = path.with_name(f"{path.name}.part")
        self._file: IO[bytes] | None = None
        self._seen = np.zeros(shape[0], bool)
        self._start = 0
        self._arriving: list[tuple[Arriving, Arriving]] = []
        on_first_rank(self._open)

    def _open(self) -> None:
        with disk_errors(self.path, any_os_error=True):
            self._file = open(self.part, "wb")  # noqa: SIM115
            header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()

    def add(self, images: Sequence[int], labels: Tensor) -> None:
        """Every rank's maps of a part of the images; ranks may have different numbers, or none.

        Args:
            images: Their positions.
            labels: uint8 (n, ...), n at most ``most``.
        """
        index = torch.full((self.most,), -1, dtype=torch.int64, device=self.device)
        index[: len(images)] = torch.tensor(list(images), dtype=torch.int64)
        maps = torch.zeros(self.most, *self.shape[1:], dtype=torch.uint8, device=self.device)
        maps[: len(images)] = labels
        gathered = zip(all_gather(index), all_gather(maps), strict=True)
        # Asynchronous copy: what came before is written while the device goes on.
        before = self._arriving
        self._arriving = [(Arriving(index), Arriving(maps)) for index, maps in gathered]
        on_first_rank(lambda: self._write(before))

    def _write(self, arriving: list[tuple[Arriving, Arriving]]) -> None:
        with disk_errors(self.path, any_os_error=True):
            for index, maps in arriving:
                rows = maps.read().numpy()
                for position, image in enumerate(index.read().tolist()):
                    if image >= 0:
                        self._put(image, rows[position].tobytes())

    def _put(self, image: int, data: bytes) -> None:
        assert self._file is not None
        self._file.seek(self._start + image * len(data))
        self._file.write(data)
        self._seen[image] = True

    def finish(self) -> None:
        """After the last part: from now on the file is there, for all ranks."""
        on_first_rank(self._finish)

    def _finish(self) -> None:
        self._write(self._arriving)
        with disk_errors(self.path, any_os_error=True):
            assert self._file is not None
            nothing = bytes([IGNORE]) * int(np.prod(self.shape[1:]))
            for image in np.flatnonzero(~self._seen):
                self._put(int(image), nothing)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self.part, self.path)

    def give_up(self) -> None:
        """Removes what was written."""
        if rank() == 0 and self._file is not None:
            with suppress(OSError):
                self._file.close()
                self.part.unlink(missing_ok=True)


def read_labels(path: Path, shape: Sequence[int]) -> np.ndarray | None:
    """The maps of a file, mapped into memory; None where it is not there or has another shape."""
    try:
        labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    fits = labels.dtype == np.uint8 and labels.shape == tuple(shape)
    return labels if fits else None

"""Count tables of single images, of which resamples of a data set are made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vice.errors import UserError, brief
from vice.runtime.files import replace_atomically
from vice.runtime.numpy_files import open_npz
from vice.scoring import CountTable

#: Flat cells of a table that hold a pixel, ascending, and their counts; both int32 (n,).
ImageCells = tuple[np.ndarray, np.ndarray]


def image_cells(table: CountTable) -> ImageCells:
    """The cells of one image's table that hold a pixel."""
    flat = table.counts.flatten().numpy()
    cells = np.flatnonzero(flat)
    return cells.astype(np.int32), flat[cells].astype(np.int32)


@dataclass(frozen=True)
class ImageTables:
    """The count table of each image of a split, without the cells that hold no pixel.

    An image holds few classes and meets few clusters, so this takes a small part of the memory of
    whole tables.

    Attributes:
        num_clusters: Number of clusters K.
        num_classes: Number of classes C.
        starts: int64 (N + 1,), where the cells of each image begin; the last entry is their end.
        cells: int32 (M,), cluster * C + class, ascending within an image.
        counts: int32 (M,), pixels of each cell, at least 1.
    """

    num_clusters: int
    num_classes: int
    starts: np.ndarray
    cells: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, images: Sequence[ImageCells], num_clusters: int, num_classes: int) -> ImageTables:
        """Puts single images together, in their order."""
        none = np.zeros(0, np.int32)
        starts = np.concatenate([[0], np.cumsum([len(cells) for cells, _ in images])])
        return cls(
            num_clusters,
            num_classes,
            starts.astype(np.int64),
            np.concatenate([none, *(cells for cells, _ in images)]),
            np.concatenate([none, *(counts for _, counts in images)]),
        )

    @property
    def images(self) -> int:
        """Number of images N."""
        return len(self.starts) - 1

    @property
    def num_cells(self) -> int:
        """Cells of a whole table, K * C."""
        return self.num_clusters * self.num_classes

    def total(self) -> CountTable:
        """The table of all images together."""
        table = CountTable(self.num_clusters, self.num_classes)
        sums = np.zeros(self.num_cells, np.int64)
        np.add.at(sums, self.cells, self.counts)
        table.counts = torch.from_numpy(sums).view_as(table.counts)
        return table


def save_image_tables(
    path: Path,
    tables: Mapping[str, ImageTables],
    sums: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes tables of the same images into one ``.npz``, without pickles.

    Args:
        path: The file.
        tables: Name to tables; the file has ``<name>.shape`` (K, C), ``<name>.starts``,
            ``<name>.cells`` and ``<name>.counts``.
        sums: Name to sums over each image, float64 (N, S), of which other scores are made (see
            `vice.evaluation.image_sums`); the file has ``<name>.sums``.

    Raises:
        UserError: The disk does not take it.
    """
    arrays: dict[str, Any] = {}
    for name, table in tables.items():
        arrays[f"{name}.shape"] = np.array([table.num_clusters, table.num_classes])
        arrays |= {f"{name}.{part}": getattr(table, part) for part in _PARTS}
    arrays |= {f"{name}.sums": values for name, values in (sums or {}).items()}
    # In memory first: an archive that a full disk cuts short raises more than OSErrors.
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    replace_atomically(path, lambda new: Path(new).write_bytes(data.getbuffer()))


def load_image_sums(path: Path, name: str, columns: int, images: int, most: int) -> np.ndarray:
    """Reads sums over each image that `save_image_tables` has written.

    Args:
        path: The file.
        name: Of the sums.
        columns: How many there are of an image, S.
        images: Number of images N that they must be of.
        most: Most bytes of the tables beside them.

    Returns:
        Finite float64 (N, S).

    Raises:
        UserError: The file is missing, not whole, or holds something else.
    """
    try:
        with open_npz(path, 16 * 8 * columns * images + most) as arrays:
            sums = arrays[f"{name}.sums"]
        if sums.dtype != np.float64 or sums.shape != (images, columns):
            raise ValueError(f"{name} is of other images")
        if not np.isfinite(sums).all():
            raise ValueError(f"{name} holds a number that is none")
        return sums
    except _UNREADABLE as error:
        raise UserError(_other_counts(path, images, error)) from error


def load_image_tables(
    path: Path, shapes: Mapping[str, tuple[int, int]], images: int, sums: int = 0
) -> dict[str, ImageTables]:
    """Reads what `save_image_tables` has written.

    Args:
        path: The file.
        shapes: Name of the tables that must be there to their (K, C).
        images: Number of images N that they must be of.
        sums: Most bytes of the sums beside them.

    Returns:
        Name to tables.

    Raises:
        UserError: The file is missing, not whole, or holds something else.
    """
    most = sums + sum(images * (8 * k * c + 8) + 64 for k, c in shapes.values())
    try:
        with open_npz(path, most) as arrays:
            return {name: _read(arrays, name, shapes[name], images) for name in shapes}
    except _UNREADABLE as error:
        raise UserError(_other_counts(path, images, error)) from error


def _other_counts(path: Path, images: int, error: Exception) -> str:
    return f"{path}: holds no counts of these {images} images ({brief(error)}); evaluate again"


_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
_PARTS = ("starts", "cells", "counts")


def _read(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, int], images: int
) -> ImageTables:
    if tuple(arrays[f"{name}.shape"].tolist()) != shape:
        raise ValueError(f"{name} is of another shape")
    starts, cells, counts = (arrays[f"{name}.{part}"] for part in _PARTS)
    dtypes = (starts.dtype, cells.dtype, counts.dtype)
    if dtypes != (np.int64, np.int32, np.int32) or starts.shape != (images + 1,):
        raise ValueError(f"{name} is of other images")
    ends = len(cells) == len(counts) == starts[-1] and starts[0] == 0
    if not (ends and cells.ndim == counts.ndim == 1 and (np.diff(starts) >= 0).all()):
        raise ValueError(f"{name} does not add up")
    in_range = cells.min(initial=0) >= 0 and cells.max(initial=0) < shape[0] * shape[1]
    if not in_range or counts.min(initial=1) < 1:
        raise ValueError(f"{name} holds a number that is none")
    return ImageTables(*shape, starts, cells, counts)

"""A result that is put together of parts, in memory or in a file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.paths import from_home
from vice.predictor.results import Tile
from vice.runtime.files import disk_errors, part_of, remove_dead_parts


def filled(
    tiles: Iterable[Tile],
    shape: Sequence[int],
    out: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Parts in their places.

    Args:
        tiles: Parts that cover the result.
        shape: Of the result; rows and columns come last.
        out: A file of NumPy to write to; it is there once it is whole.
        dtype: Of the result.

    Returns:
        The result, in memory or mapped from the file.

    Raises:
        UserError: The file cannot be written, or something else than an array lies in its place.
    """
    if out is None:
        values = torch.empty(*shape, dtype=dtype)
        for tile in tiles:
            values[..., tile.rows, tile.columns] = tile.values
        return values
    path = from_home(out)
    _check_place(path)
    remove_dead_parts(path.parent, path.name)
    part = part_of(path)
    try:
        _write(part, tiles, shape, dtype)
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); choose another place") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return torch.from_numpy(np.load(path, mmap_mode="r+"))


def _check_place(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}: make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it, such as {path / 'embedding.npy'}")
    if not path.exists():
        return
    with disk_errors(path, any_os_error=True), path.open("rb") as file:
        start = file.read(len(np.lib.format.MAGIC_PREFIX))
    if start != np.lib.format.MAGIC_PREFIX:
        raise UserError(
            f"{path} holds no array of NumPy, and would be written over: choose another file"
        )


def _write(path: Path, tiles: Iterable[Tile], shape: Sequence[int], dtype: torch.dtype) -> None:
    mapped: np.memmap | None = None
    for tile in tiles:
        values = tile.values.to(dtype).numpy()
        if mapped is None:
            mapped = np.lib.format.open_memmap(
                path, mode="w+", dtype=values.dtype, shape=tuple(shape)
            )
        mapped[..., tile.rows, tile.columns] = values
        mapped.flush()
        # Pages that are written stay mapped, and count as memory of this process.
        pages = getattr(mapped, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)

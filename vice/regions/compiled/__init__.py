"""Numbering, region means and representatives by compiled C, on a CPU: ``blocks.h`` says how.

Values and gradients are those of `vice.regions.means` and `vice.regions.representatives` up to
rounding. Maps are shared out among threads, each map to one of them, so that results do not depend
on how many there are.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vice.regions.bilinear import axis
from vice.regions.compiled.shared_library import library

#: Scores that C compares at a time.
LANES = 16
_SIZES = "dim", "grid_height", "grid_width", "height", "width", "first", "last"
_POINTERS = "cells", "row", "bounds", "y_low", "x_low", "y_share", "x_share"


class _Batch(ctypes.Structure):
    """What all maps of a batch have in common, as C knows it."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int32) for name in _SIZES),
        ("next", ctypes.c_void_p),
    ]


def takes(embeddings: Tensor) -> bool:
    """Whether an embedding is on a CPU, in float32, and there is a C compiler."""
    known = embeddings.device.type == "cpu" and embeddings.dtype == torch.float32
    # Subclasses (fake tensors) need not have memory.
    known = known and type(embeddings) in (Tensor, nn.Parameter) and embeddings.numel() > 0
    return known and library() is not None


def number_pixels(ids: Tensor, bound: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Numbers regions, where there is a C compiler for the device.

    Args:
        ids: (B, P) integer, below ``bound``; from -2**31 to -1 for no region.
        bound: B times it is below 2**31.

    Returns:
        None, or keys (map * bound + id) of the R regions that there are, ascending, their pixels,
        int64 (R,) each, and the region of each pixel, int32 (B * P,), R for none.
    """
    functions = library() if ids.device.type == "cpu" and type(ids) is Tensor else None
    if functions is None:
        return None
    given = _in_order(ids.int())
    counts = torch.zeros(len(ids) * bound, dtype=torch.int64, device="cpu")
    sizes = [ctypes.c_int64(size) for size in (*ids.shape, bound)]
    functions.count_pixels(_pointer(given), *sizes, _pointer(counts))
    keys = counts.nonzero().squeeze(1)
    rows = torch.empty(len(counts), dtype=torch.int32, device="cpu")
    rows[keys] = torch.arange(len(keys), dtype=torch.int32, device="cpu")
    found = torch.empty(ids.numel(), dtype=torch.int32, device="cpu")
    none = ctypes.c_int32(len(keys))
    functions.look_up_rows(_pointer(given), *sizes, _pointer(rows), none, _pointer(found))
    return keys, counts[keys], found


class Layout:
    """How the pixels of all maps lie between cells and in regions.

    Args:
        embeddings: (B, D, h', w') float32.
        numbered: Regions as `vice.regions.index_regions` numbers them.
        align_corners: As in `torch.nn.functional.interpolate`.

    Raises:
        ValueError: The numbering contradicts itself, so that C would read beyond its memory.

    Attributes:
        shape: (B, h', w', D).
        pixels: B * h * w.
        threads: That maps are shared out among.
    """

    def __init__(self, embeddings: Tensor, numbered: Any, align_corners: bool) -> None:
        maps, dim, *grid = embeddings.shape
        self.shape = maps, *grid, dim
        self.pixels = numbered.row.numel()
        self.threads = min(torch.get_num_threads(), maps)
        y, x = (
            axis(pixels, cells, embeddings, align_corners=align_corners)
            for pixels, cells in zip(numbered.size, grid, strict=True)
        )
        if (
            self.pixels != maps * numbered.size[0] * numbered.size[1]
            or len(numbered.index) != len(numbered.counts)
            or {each.device.type for each in numbered[:3]} != {"cpu"}
        ):
            raise ValueError(f"the numbering of regions is not one of {maps} maps on this device")
        first = torch.arange(maps + 1, device="cpu")
        bounds = torch.searchsorted(numbered.index[:, 0].contiguous(), first, out_int32=True)
        low, share = [each.low.int() for each in (y, x)], [each.share for each in (y, x)]
        self._tensors = numbered.row.int().contiguous(), bounds, *low, *share
        self._sizes = dim, *grid, *numbered.size

    def call(
        self, name: str, cells: Tensor, *arguments: Tensor | int | None, maps: slice | None = None
    ) -> None:
        """Calls a function of this folder's C.

        Args:
            name: Of the function.
            cells: (B, h', w', D) contiguous.
            arguments: Those after the batch: contiguous tensors, whole numbers, or None.
            maps: Some of them; None means all.

        Raises:
            MemoryError: There is not enough.
        """
        maps = maps or slice(0, len(cells))
        following = ctypes.c_int32(maps.start)
        batch = _Batch(
            *(tensor.data_ptr() for tensor in (cells, *self._tensors)),
            *self._sizes,
            maps.start,
            maps.stop,
            ctypes.addressof(following),
        )
        function = getattr(library(), name)
        given = [
            ctypes.c_int32(each) if isinstance(each, int) else _pointer(each) for each in arguments
        ]

        def work() -> int:
            return int(function(ctypes.byref(batch), *given))

        helpers = min(self.threads, maps.stop - maps.start) - 1
        if not helpers:
            statuses = [work()]
        else:
            # Global interpreter lock: ctypes lets go of it while C computes.
            others = []
            # At the end of the interpreter there are no more threads: this one does it all.
            with suppress(RuntimeError):
                others = [_pool(helpers).submit(work) for _ in range(helpers)]
            try:
                statuses = [work()]
            finally:
                # Whatever ends this one: no other may go on with memory that is freed.
                begun = [other for other in others if not other.cancel()]
                wait(begun)
            statuses += [other.result() for other in begun]
        if any(statuses):
            raise MemoryError(f"no memory for the regions of {self.pixels} pixels")


@cache
def _pool(helpers: int) -> ThreadPoolExecutor:
    """Threads that stay: to begin and end them takes as long as a tenth of a small batch."""
    return ThreadPoolExecutor(helpers, thread_name_prefix="vice-regions")


# Fork: a child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _cells(embeddings: Tensor) -> Tensor:
    """(B, h', w', D), the numbers of a cell side by side in memory."""
    return _in_order(embeddings.detach().permute(0, 2, 3, 1))


def _in_order(values: Tensor) -> Tensor:
    """Row-major, with the signs that memory holds, and in memory: zeros may have none."""
    values = values.clone() if values._is_zerotensor() else values
    return values.resolve_neg().contiguous()


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _gradient_like(embeddings: Tensor, of_cells: Tensor) -> Tensor:
    """The gradient (B, D, h', w') in the embedding's order in memory."""
    found = of_cells.permute(0, 3, 1, 2)
    return found.contiguous() if embeddings.is_contiguous() else found


def _repeated(prototypes: Tensor) -> Tensor:
    """As many as C takes: more of the first one changes no maximum."""
    more = -len(prototypes) % LANES
    return torch.cat([prototypes, prototypes[:1].expand(more, -1)]) if more else prototypes


class CompiledMeans(torch.autograd.Function):
    """Region means (R, D), as `vice.regions.means.PooledMeans`."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, embeddings: Tensor, numbered: Any, options: dict[str, bool]
    ) -> Tensor:
        """Sums over the patches of each map."""
        layout = Layout(embeddings, numbered, options["align_corners"])
        means = embeddings.new_zeros(len(numbered.counts), embeddings.shape[1])
        lengths = embeddings.new_empty(layout.pixels) if options["normalize"] else None
        layout.call("sum_regions", _cells(embeddings), lengths, means)
        means /= numbered.counts.unsqueeze(1)
        ctx.save_for_backward(embeddings, numbered.counts)
        ctx.layout, ctx.lengths = layout, lengths
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """What patches give to their cells, and the stencil of each block."""
        embeddings, counts = ctx.saved_tensors
        of_sums = _in_order(gradient / counts.unsqueeze(1))
        of_cells = embeddings.new_zeros(ctx.layout.shape)
        given = ctx.lengths, of_sums, of_cells
        ctx.layout.call("sum_regions_backward", _cells(embeddings), *given)
        return _gradient_like(embeddings, of_cells), None, None


class CompiledRepresentatives(torch.autograd.Function):
    """Representatives (R, D) and coherence (R,), as `vice.regions.representatives`'s.

    ``options``: as there.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        numbered: Any,
        options: dict[str, bool],
    ) -> tuple[Tensor, Tensor]:
        """Scores, choice and distances of each map."""
        layout = Layout(embeddings, numbered, options["align_corners"])
        regions = len(numbered.counts)
        lengths, distances = embeddings.new_empty(2, layout.pixels)
        chosen = torch.empty(regions, dtype=torch.int64, device="cpu")
        vectors = embeddings.new_empty(regions, embeddings.shape[1])
        sums = torch.zeros(regions, dtype=torch.float64, device="cpu")
        kept = (lengths, distances, chosen, vectors)
        cells, many = _cells(embeddings), _repeated(prototypes).t()
        # Memory: scores beside the cells, of some maps at a time, are no more than a quarter.
        step = max(layout.threads, cells.shape[0] * cells.shape[3] // (4 * many.shape[1]))
        for first in range(0, len(cells), step):
            maps = slice(first, min(first + step, len(cells)))
            scores = cells[maps] @ many
            layout.call("represent", cells, scores, many.shape[1], *kept, sums, maps=maps)
        ctx.save_for_backward(embeddings, numbered.counts, *kept)
        ctx.layout, ctx.through = layout, options["through"]
        return vectors, (sums / numbered.counts).float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_vectors: Tensor, of_coherence: Tensor
    ) -> tuple[Tensor | None, ...]:
        """What patches give to their cells, the stencil, and what the chosen pixels give."""
        embeddings, counts, *kept = ctx.saved_tensors
        of_sums = _in_order(of_coherence / counts)
        drawn = torch.zeros_like(kept[-1]) if ctx.through else None
        pulls = torch.zeros_like(of_sums) if ctx.through else None
        of_cells = embeddings.new_zeros(ctx.layout.shape)
        given = (*kept, _in_order(of_vectors), of_sums, drawn, pulls, of_cells)
        ctx.layout.call("represent_backward", _cells(embeddings), *given)
        return _gradient_like(embeddings, of_cells), None, None, None

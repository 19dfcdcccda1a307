"""Region pooling against upsampling, and against reading Y and writing its gradient once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.memory import peak_extra_bytes
from vice.experiments.benchmark.timing import Measurement, device_seconds, time_in_turn
from vice.regions import RegionIndex, index_regions, pool_regions, representative_regions

DIM = 128


def upsampled_means(embeddings: Tensor, regions: Tensor) -> Tensor:
    """Region means the way the formula reads: upsample, normalise each pixel, add up."""
    numbered = index_regions(regions)
    size = (regions.shape[1], regions.shape[2])
    pixels = F.normalize(upsample(embeddings.float(), size), dim=1)
    total = region_sum(pixels, numbered.row, numbered.counts.numel())
    return total / numbered.counts.unsqueeze(1)


def _means(embeddings: Tensor, regions: Tensor | RegionIndex, mode: str) -> Tensor:
    return pool_regions(embeddings, regions, normalize=mode).vectors


def _representatives(
    embeddings: Tensor, regions: Tensor | RegionIndex, prototypes: Tensor
) -> Tensor:
    # The dearer of the two gradients.
    pooled, coherence = representative_regions(
        embeddings, regions, prototypes, coherence_gradient="through"
    )
    return torch.cat([pooled.vectors, coherence.unsqueeze(1)], 1)


def both_ways(function: Callable[[], Tensor], embeddings: Tensor) -> Callable[[], None]:
    """Forward and backward of a function of the embeddings."""

    def call() -> None:
        torch.autograd.grad(function().square().sum(), embeddings)

    return call


def pooling(device: str, *, small: bool) -> list[Measurement]:
    """Pooling of a batch at the paper's size, 20 views of 400 pixels and 128 dimensions.

    The floor is a copy of Y: whoever pools and takes the gradient has to read Y and to write as
    much. Memory includes the gradient, which is as large as Y.
    """
    maps, side = (20, 80) if small else (20, 400)
    regions = block_regions(maps, side, 20, device).int()
    rows = []
    for dtype in (torch.float32, torch.bfloat16) if device != "cpu" else (torch.float32,):
        cells = torch.randn(maps, DIM, side // 4, side // 4, device=device, dtype=dtype)
        leaf = cells.contiguous(memory_format=torch.channels_last).requires_grad_()
        rows += _rows(leaf, regions, device)
    return rows


def _rows(leaf: Tensor, regions: Tensor, device: str) -> list[Measurement]:
    prototypes = F.normalize(torch.randn(128, DIM, device=device), dim=1)
    calls: dict[str, Callable[[], object]] = {
        "floor, a copy of Y": leaf.detach().clone,
        "upsampled": both_ways(partial(upsampled_means, leaf, regions), leaf),
        **_ways(leaf, regions, prototypes),
        "number the regions": partial(index_regions, regions),
    }
    seconds = time_in_turn(calls, device=device)
    floor, size = seconds["floor, a copy of Y"], leaf.numel() * leaf.element_size()
    rows = []
    for name, taken in seconds.items():
        extra = peak_extra_bytes(calls[name], device)
        note = f"{taken / floor:.3g} times the floor; {extra / size:.2f} Y of memory"
        if taken == floor:
            taps = 4 * DIM * regions.numel()
            note = f"{2 * size:,} bytes; mixing every pixel outright: {taps:,} multiplications"
            if device != "cpu":
                note += f"; {2 * size / taken / 1e9:,.0f} GB/s"
        label = f"{name}, {_name(leaf)}"
        rows.append(Measurement(label, taken, "upsampled", taken / seconds["upsampled"], note))
    return rows if device == "cpu" else rows + _kernels_alone(leaf, regions, prototypes)


def _ways(
    leaf: Tensor, regions: Tensor | RegionIndex, prototypes: Tensor
) -> dict[str, Callable[[], None]]:
    return {
        "pool_regions, pixel": both_ways(partial(_means, leaf, regions, "pixel"), leaf),
        "pool_regions, region": both_ways(partial(_means, leaf, regions, "region"), leaf),
        "representatives": both_ways(partial(_representatives, leaf, regions, prototypes), leaf),
    }


def _kernels_alone(leaf: Tensor, regions: Tensor, prototypes: Tensor) -> list[Measurement]:
    """What the ways take of a GPU once regions are numbered, as in a training step.

    There the host has launched all this before the GPU comes to it; called by itself it is the
    launching that takes long.
    """
    floor = device_seconds(leaf.detach().clone)
    rows = []
    for name, call in _ways(leaf, index_regions(regions), prototypes).items():
        taken = device_seconds(call)
        label = f"{name}, kernels alone, {_name(leaf)}"
        rows.append(Measurement(label, taken, "floor", taken / floor, "regions numbered before"))
    return rows


def _name(leaf: Tensor) -> str:
    return str(leaf.dtype).removeprefix("torch.")


def upsample(embeddings: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Bilinear upsampling to view resolution, pixel-major.

    Args:
        embeddings: (B, D, h', w').
        size: (h, w) of the views.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        (B*h*w, D), one row a pixel.
    """
    dense = embeddings.contiguous(memory_format=torch.channels_last)
    if dense.shape[-2:] != size:
        dense = F.interpolate(dense, size=size, mode="bilinear", align_corners=align_corners)
    return dense.permute(0, 2, 3, 1).reshape(-1, embeddings.shape[1])


def region_sum(values: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Sums rows of pixel values (P, D) by region row (P,) into (num_rows, D)."""
    total = values.new_zeros(num_rows + 1, values.shape[1])
    return total.index_add(0, row, values)[:num_rows]

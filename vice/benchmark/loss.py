"""Region pooling, the loss, and a training step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.benchmark.data import block_regions
from vice.benchmark.timing import Row, peak_extra_bytes, time_in_turn
from vice.losses import DenseSwAVLoss
from vice.models import Prototypes, build_embedder
from vice.regions import index_regions, pool_regions, region_sum, upsample


def upsampled_means(embeddings: Tensor, regions: Tensor) -> Tensor:
    """Region means the way the formula reads: upsample, normalise each pixel, add up."""
    numbered = index_regions(regions)
    size = (regions.shape[1], regions.shape[2])
    pixels = F.normalize(upsample(embeddings.float(), size), dim=1)
    total = region_sum(pixels, numbered.row, numbered.counts.numel())
    return total / numbered.counts.unsqueeze(1)


def _means(embeddings: Tensor, regions: Tensor) -> Tensor:
    return pool_regions(embeddings, regions).vectors


def both_ways(function: Callable[[], Tensor], embeddings: Tensor) -> Callable[[], None]:
    """Forward and backward of a function of the embeddings."""

    def call() -> None:
        torch.autograd.grad(function().square().sum(), embeddings)

    return call


def pooling(device: str, *, small: bool) -> list[Row]:
    """Pooling of a batch at the paper's size, 20 views of 400 pixels and 128 dimensions."""
    maps, side = (4, 200) if small else (20, 400)
    regions = block_regions(maps, side, 20, device)
    rows = []
    for dtype in (torch.float32, torch.bfloat16) if device != "cpu" else (torch.float32,):
        cells = torch.randn(maps, 128, side // 4, side // 4, device=device, dtype=dtype)
        leaf = cells.contiguous(memory_format=torch.channels_last).requires_grad_()
        calls: dict[str, Callable[[], object]] = {
            "read Y once": leaf.detach().clone,
            "upsampled": both_ways(partial(upsampled_means, leaf, regions), leaf),
            "pool_regions": both_ways(partial(_means, leaf, regions), leaf),
            "number the regions": partial(index_regions, regions),
        }
        seconds = time_in_turn(calls, device=device)
        size = leaf.numel() * leaf.element_size()
        for name in ("upsampled", "pool_regions", "number the regions"):
            extra = peak_extra_bytes(calls[name], device)
            note = f"{seconds[name] / seconds['read Y once']:.3g} times copying Y once"
            if extra is not None:
                # The gradient of Y is what is asked for, and as large as Y.
                note += f"; {extra / size:.2f} Y of memory, its gradient included"
            label = f"{name}, {str(dtype).removeprefix('torch.')}, forward and backward"
            ratio = seconds[name] / seconds["upsampled"]
            rows.append(Row(label, seconds[name], "upsampled", ratio, note))
    return rows


def step(device: str, *, small: bool) -> list[Row]:
    """A training step against the bare model's forward and backward on the same batch."""
    views, images, side = (2, 2, 96) if small else (5, 4, 400)
    backbone, decoder = ("resnet18", "fpn") if small else ("resnet50", "deeplabv3plus")
    rows = []
    for name in ("plain", "channels_last") if device == "cpu" else ("channels_last", "compiled"):
        model: nn.Module = build_embedder(backbone, decoder, 128).to(device)
        model = model.to(memory_format=torch.channels_last) if name != "plain" else model
        if name == "compiled":
            model = torch.compile(model)
        batch = torch.randn(views * images, 3, side, side, device=device)
        batch = batch.contiguous(memory_format=torch.channels_last) if name != "plain" else batch
        regions = block_regions(views * images, side, 20, device)
        criterion = DenseSwAVLoss(views, 128, 128, queue_length=5000, queue_start=0).to(device)
        prototypes = Prototypes(128, 128).to(device)

        def bare(model: nn.Module = model, batch: Tensor = batch) -> None:
            with _precision(device):
                found = model(batch)
            model.zero_grad()
            found.backward(torch.ones_like(found))

        def whole(
            model: nn.Module = model,
            batch: Tensor = batch,
            criterion: nn.Module = criterion,
            prototypes: Prototypes = prototypes,
            regions: Tensor = regions,
        ) -> None:
            with _precision(device):
                found = model(batch)
                loss = criterion(found, prototypes.weight, regions)
            model.zero_grad()
            loss.backward()

        seconds = time_in_turn({"bare": bare, "whole": whole}, device=device, seconds=4)
        label = f"{backbone} + {decoder}, {name}"
        note = f"{views} views of {images} images of {side} pixels"
        rows.append(Row(f"{label}: model alone", seconds["bare"], "itself", 1.0, note))
        ratio = seconds["whole"] / seconds["bare"]
        rows.append(Row(f"{label}: with the loss", seconds["whole"], "model alone", ratio, note))
    return rows


def _precision(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, torch.bfloat16) if device != "cpu" else nullcontext()

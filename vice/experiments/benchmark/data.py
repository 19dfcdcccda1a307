"""Inputs of the benchmarks: nothing is read from disk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with edges at all scales, uint8 (H, W, 3): levels of smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(3, height, width)
    for scale in (4, 16, 64):
        size = (max(2, height // scale), max(2, width // scale))
        coarse = torch.rand(1, 3, *size, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        total += (smooth * 4).round() / 4 * scale**0.5
    total = (total - total.amin()) / (total.amax() - total.amin())
    noise = 6 * torch.randn(3, height, width, generator=generator)
    return (255 * total + noise).clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def block_regions(maps: int, side: int, size: int, device: str) -> Tensor:
    """Square regions of about ``size`` pixels a side, shifted from map to map: (maps, s, s)."""
    per_row = -(-side // size)
    ids = torch.arange(per_row**2).view(per_row, per_row)
    blocks = ids.repeat_interleave(size, 0).repeat_interleave(size, 1)[:side, :side]
    shifted = [torch.roll(blocks, (3 * i, 7 * i), (0, 1)) for i in range(maps)]
    return torch.stack(shifted).to(device)

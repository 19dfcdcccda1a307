"""Numbering of the regions of a batch: from (map, id) to rows of a table."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vice.regions.compiled import number_pixels

_SIGNED = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_UNSIGNED = (torch.uint16, torch.uint32)
#: Ids from here on, such as hashes, are sorted; below, a table has a place for each.
SPARSE = 2**22


class RegionIndex(NamedTuple):
    """Which region each pixel belongs to, with the regions numbered 0..R-1 over all maps.

    Attributes:
        row: (B*h*w,) int32, the region's row for each pixel; R where the pixel has no region.
        index: (R, 2) int64, (map, region id) of each row, sorted.
        counts: (R,) int64, pixels of each region.
        maps: B.
        size: (h, w).
        bound: Exclusive upper bound on the ids.
    """

    row: Tensor
    index: Tensor
    counts: Tensor
    maps: int
    size: tuple[int, int]
    bound: int


def index_regions(regions: Tensor, num_regions: int | None = None) -> RegionIndex:
    """Numbers the regions of a batch of maps consecutively.

    On a GPU this waits for the device, which alone knows how many regions there are.

    Args:
        regions: (B, h, w) integer; ids below 0 belong to no region, id 0 is a region like any
            other. Ids are local to their map.
        num_regions: Exclusive upper bound on the ids; None reads it from the maps.

    Returns:
        The numbering; R = 0 when no pixel has a region.

    Raises:
        ValueError: An id is not below ``num_regions``, or these are no maps of integers.
    """
    if not isinstance(regions, Tensor):
        raise ValueError(f"regions must be a tensor (B, h, w), not {type(regions).__name__}")
    if regions.dim() != 3:
        raise ValueError(f"regions must be (B, h, w), not {tuple(regions.shape)}")
    if regions.dtype not in (*_SIGNED, *_UNSIGNED):
        raise ValueError(
            f"regions must be integers, of 64 bits with a sign or 32 without, not {regions.dtype}"
        )
    maps = regions.shape[0]
    ids = regions.reshape(maps, regions.shape[1] * regions.shape[2])
    # PyTorch has hardly any operators for the wider unsigned types.
    ids = ids.long() if ids.dtype in _UNSIGNED else ids
    largest = int(ids.max()) if ids.numel() else -1
    bound = max(largest + 1, 1) if num_regions is None else num_regions
    if largest >= bound:
        raise ValueError(f"region id {largest} is not below num_regions={num_regions}")
    if bound > SPARSE and num_regions is None:
        return _of_sparse(regions, ids, bound)
    if ids.dtype == torch.int64:
        # Narrowing: of numbers below -2**31 no more than the last 32 bits would be left.
        ids = ids.clamp(min=-1)
    nowhere, size = maps * bound, (regions.shape[1], regions.shape[2])
    if nowhere < 2**31 and (found := number_pixels(ids, bound)) is not None:
        keys, counts, row = found
        index = torch.stack([keys // bound, keys % bound], dim=1)
        return RegionIndex(row, index, counts, maps, size, bound)
    # Narrow keys: what goes over all pixels is bound by memory.
    ids = ids.to(torch.int32 if nowhere < 2**31 else torch.int64)
    base = torch.arange(maps, device=ids.device, dtype=ids.dtype).mul_(bound).unsqueeze(1)
    key = torch.where(ids >= 0, ids + base, nowhere).flatten()
    per_key = torch.bincount(key, minlength=nowhere + 1)[:nowhere]
    present = per_key > 0
    used_keys = present.nonzero().squeeze(1)
    # Ignored pixels (no region) share one row past the end, which the sums then drop.
    rows = torch.full((nowhere + 1,), used_keys.numel(), dtype=torch.int32, device=ids.device)
    rows[used_keys] = torch.arange(used_keys.numel(), dtype=torch.int32, device=ids.device)
    index = torch.stack([used_keys // bound, used_keys % bound], dim=1)
    return RegionIndex(rows.index_select(0, key), index, per_key[used_keys], maps, size, bound)


def _of_sparse(regions: Tensor, ids: Tensor, bound: int) -> RegionIndex:
    known, places = torch.unique(ids.clamp(min=-1), return_inverse=True)
    # Place 0 is that of no region, where there is any such pixel.
    places = places - 1 if int(known[0]) < 0 else places
    found = index_regions(places.view(regions.shape), len(known))
    known = known[known >= 0].long()
    index = torch.stack([found.index[:, 0], known[found.index[:, 1]]], dim=1)
    return found._replace(index=index, bound=bound)


def _numbered(
    embeddings: Tensor, regions: Tensor | RegionIndex, num_regions: int | None
) -> RegionIndex:
    if not isinstance(regions, Tensor | RegionIndex):
        raise ValueError(
            f"regions must be a tensor or what index_regions gives, not {type(regions).__name__}"
        )
    maps = regions.shape[0] if isinstance(regions, Tensor) else regions.maps
    size = tuple(regions.shape[1:]) if isinstance(regions, Tensor) else regions.size
    if embeddings.dim() != 4 or 0 in (*embeddings.shape, *size):
        raise ValueError(
            f"embeddings must be (B, D, h', w') and regions (B, h, w), with nothing that is 0, not "
            f"{tuple(embeddings.shape)} and {(maps, *size)}"
        )
    if embeddings.shape[0] != maps:
        raise ValueError(
            f"{embeddings.shape[0]} embeddings but {maps} region maps: one map for each embedding "
            "is needed"
        )
    return index_regions(regions, num_regions) if isinstance(regions, Tensor) else regions

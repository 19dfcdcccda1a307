"""Region vectors: one vector for each region of each map, from a dense embedding.

ViCE (arXiv) section 3.4; the modes are those of the papers and of the authors' release.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.pooling import PooledMeans
from vice.representatives import Representatives

logger = logging.getLogger(__name__)
NORMALIZE_MODES = ("pixel", "region")


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


class RegionVectors(NamedTuple):
    """Vectors of R regions.

    Attributes:
        vectors: (R, D) float.
        counts: (R,) int64, pixels of each region.
        index: (R, 2) int64, (map, region id) of each row, sorted by map, then id.
    """

    vectors: Tensor
    counts: Tensor
    index: Tensor


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
        ValueError: An id is not below ``num_regions``.
    """
    if regions.dim() != 3:
        raise ValueError(f"regions must be (B, h, w), not {tuple(regions.shape)}")
    maps = regions.shape[0]
    ids = regions.reshape(maps, -1).long()
    largest = int(ids.max()) if ids.numel() else -1
    bound = max(largest + 1, 1) if num_regions is None else num_regions
    if largest >= bound:
        raise ValueError(f"region id {largest} is not below num_regions={num_regions}")
    base = torch.arange(maps, device=ids.device).mul_(bound).unsqueeze(1)
    nowhere = maps * bound
    key = torch.where(ids >= 0, ids + base, nowhere).flatten()
    per_key = torch.bincount(key, minlength=nowhere + 1)[:nowhere]
    present = per_key > 0
    found = present.nonzero().squeeze(1)
    # Pixels without a region share one row past the end, which the sums then drop.
    rows = torch.full((nowhere + 1,), found.numel(), dtype=torch.int32, device=ids.device)
    rows[found] = torch.arange(found.numel(), dtype=torch.int32, device=ids.device)
    index = torch.stack([found // bound, found % bound], dim=1)
    size = (regions.shape[1], regions.shape[2])
    return RegionIndex(rows[key], index, per_key[found], maps, size, bound)


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


def pool_regions(
    embeddings: Tensor,
    regions: Tensor | RegionIndex,
    num_regions: int | None = None,
    *,
    normalize: str | bool = "pixel",
    align_corners: bool = False,
) -> RegionVectors:
    """Mean of the upsampled embedding over each region, without upsampling it.

    How, is told in `vice.pooling`; memory is that of the embedding and of a few numbers a pixel.

    Args:
        embeddings: (B, D, h', w') float, any stride.
        regions: (B, h, w) integer at view resolution, -1 where there is no region, or what
            `index_regions` made of that.
        num_regions: Exclusive upper bound on the region ids; None reads it from the maps.
        normalize: ``"pixel"`` (or True): every pixel's vector is L2-normalised before the mean
            (both papers). ``"region"`` (or False): raw vectors are averaged (the authors'
            low-resolution configs). Neither normalises the mean itself.
        align_corners: How the embedding is upsampled to (h, w).

    Returns:
        ``(vectors (R, D), counts (R,), index (R, 2))``; R = 0 for maps without regions. float16
        and bfloat16 are pooled, and returned, in float32.

    Raises:
        ValueError: Unknown mode, batch sizes that differ, or an id outside ``num_regions``.
    """
    mode = {True: "pixel", False: "region"}.get(normalize, normalize)  # type: ignore[arg-type]
    if mode not in NORMALIZE_MODES:
        raise ValueError(f"normalize must be one of {NORMALIZE_MODES}, not {normalize!r}")
    numbered = _numbered(embeddings, regions, num_regions)
    options = {"normalize": mode == "pixel", "align_corners": align_corners}
    # Under autocast the inner products that lengths are made of would lose their digits.
    with torch.autocast(embeddings.device.type, enabled=False):
        means = region_means(embeddings, numbered, options)
    return RegionVectors(means, numbered.counts, numbered.index)


def region_means(embeddings: Tensor, numbered: RegionIndex, options: dict[str, bool]) -> Tensor:
    """Region means (R, D) by the fastest path that fits.

    On a GPU with Triton, one fused kernel each way (`vice.kernels`). Elsewhere, in float64, and
    under `torch.use_deterministic_algorithms`, plain PyTorch (`vice.pooling`). A GPU that has to
    do without the kernels is logged once.
    """
    if (kernels := _kernels_for(embeddings)) is not None:
        return kernels.FusedMeans.apply(embeddings, numbered, options)
    return PooledMeans.apply(_full(embeddings), numbered, options)


def _kernels_for(embeddings: Tensor) -> Any:
    """`vice.kernels` where they take an embedding, else None."""
    if not embeddings.is_cuda or torch.are_deterministic_algorithms_enabled():
        return None
    kernels = _kernels()
    return kernels if kernels is not None and kernels.supports(embeddings) else None


@cache
def _kernels() -> Any:
    try:
        from vice import kernels
    except ImportError as error:
        logger.warning("no Triton (%s): regions are pooled by plain PyTorch, more slowly", error)
        return None
    return kernels


def representative_regions(
    embeddings: Tensor,
    regions: Tensor | RegionIndex,
    prototypes: Tensor,
    num_regions: int | None = None,
    *,
    align_corners: bool = False,
) -> tuple[RegionVectors, Tensor]:
    """The pixel that fits a prototype best stands for its region (authors' high-res configs).

    How, is told in `vice.representatives`; memory is that of the embedding and of a few numbers a
    pixel.

    Args:
        embeddings: (B, D, h', w') float.
        regions: (B, h, w) integer, -1 where there is no region, or what `index_regions` made of it.
        prototypes: (K, D) unit rows.
        num_regions: Exclusive upper bound on the region ids.
        align_corners: How the embedding is upsampled to (h, w).

    Returns:
        The unit vectors of the representatives as `RegionVectors`, and the coherence (R,): the
        mean Euclidean distance of a region's pixels, unit length too, to its representative.
        Between equal scores the first pixel in scan order wins.

    Raises:
        ValueError: Batch sizes that differ, or an id outside ``num_regions``.
    """
    numbered = _numbered(embeddings, regions, num_regions)
    with torch.autocast(embeddings.device.type, enabled=False):
        vectors, coherence = region_representatives(
            embeddings, prototypes.detach(), numbered, align_corners=align_corners
        )
    return RegionVectors(vectors, numbered.counts, numbered.index), coherence


def region_representatives(
    embeddings: Tensor,
    prototypes: Tensor,
    numbered: RegionIndex,
    *,
    align_corners: bool,
) -> tuple[Tensor, Tensor]:
    """Representatives (R, D) and coherence (R,) by the path that `region_means` would take."""
    if (kernels := _kernels_for(embeddings)) is not None:
        function, taken = kernels.FusedRepresentatives, embeddings
    else:
        function, taken = Representatives, _full(embeddings)
    like = torch.float64 if taken.dtype == torch.float64 else torch.float32
    return function.apply(taken, prototypes.to(like), numbered, align_corners)


def _full(embeddings: Tensor) -> Tensor:
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def _numbered(
    embeddings: Tensor, regions: Tensor | RegionIndex, num_regions: int | None
) -> RegionIndex:
    maps = regions.shape[0] if isinstance(regions, Tensor) else regions.maps
    if embeddings.shape[0] != maps:
        raise ValueError(
            f"{embeddings.shape[0]} embeddings but {maps} region maps: one map for each embedding "
            "is needed"
        )
    return index_regions(regions, num_regions) if isinstance(regions, Tensor) else regions

"""Region vectors: one vector for each region of each map, from a dense embedding.

ViCE (arXiv) section 3.4; the modes are those of the papers and of the authors' release.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vice.precision import full_precision
from vice.regions import compiled
from vice.regions.means import PooledMeans
from vice.regions.numbering import RegionIndex, _numbered
from vice.regions.representatives import COHERENCE_GRADIENTS, Representatives
from vice.regions.small_maps import fits
from vice.regions.small_means import PooledSmallMeans
from vice.regions.small_representatives import SmallRepresentatives, representatives_fit

logger = logging.getLogger(__name__)
NORMALIZE_MODES = ("pixel", "region")


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


def pool_regions(
    embeddings: Tensor,
    regions: Tensor | RegionIndex,
    num_regions: int | None = None,
    *,
    normalize: str | bool = "pixel",
    align_corners: bool = False,
) -> RegionVectors:
    """Mean of the upsampled embedding over each region, without upsampling it.

    How, is told in `vice.regions.means`; memory is that of the embedding and of a few numbers a
    pixel.

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
        ValueError: Unknown mode, batch sizes that differ, no integers or no pixels, or an id
            outside ``num_regions``.

    Example:
        Two pixels, (3, 0) and (0, 4), make one region, of id 7:

        >>> import torch
        >>> from vice.regions import pool_regions
        >>> embedding = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
        >>> pooled = pool_regions(embedding, torch.tensor([[[7, 7]]]))
        >>> pooled.vectors.tolist(), pooled.counts.tolist(), pooled.index.tolist()
        ([[0.5, 0.5]], [2], [[0, 7]])
        >>> pool_regions(embedding, torch.tensor([[[7, 7]]]), normalize="region").vectors.tolist()
        [[1.5, 2.0]]
    """
    mode = ("pixel" if normalize else "region") if isinstance(normalize, bool) else normalize
    if mode not in NORMALIZE_MODES:
        raise ValueError(f"normalize must be one of {NORMALIZE_MODES}, not {normalize!r}")
    numbered = _numbered(embeddings, regions, num_regions)
    options = {"normalize": mode == "pixel", "align_corners": align_corners}
    # Autocast off: the inner products that lengths are made of would lose their digits.
    with torch.autocast(embeddings.device.type, enabled=False):
        means = region_means(embeddings, numbered, options)
    return RegionVectors(means, numbered.counts, numbered.index)


def region_means(embeddings: Tensor, numbered: RegionIndex, options: dict[str, bool]) -> Tensor:
    """Region means (R, D) by the fastest path that fits.

    On a GPU with Triton, one fused kernel each way (`vice.regions.kernels`), on a CPU with a C
    compiler as well (`vice.regions.compiled`). Elsewhere, in float64, and on a GPU under
    `torch.use_deterministic_algorithms`, plain PyTorch (`vice.regions.means`; small maps on a CPU
    at once, `vice.regions.small_means`). Where a device has to do without its kernels, that is
    logged once.
    """
    if (kernels := _kernels_for(embeddings)) is not None:
        return kernels.FusedMeans.apply(embeddings, numbered, options)
    taken = full_precision(embeddings)
    if compiled.takes(taken):
        return compiled.CompiledMeans.apply(taken, numbered, options)
    function = PooledSmallMeans if fits(taken, numbered) else PooledMeans
    return function.apply(taken, numbered, options)


def _kernels_for(embeddings: Tensor) -> Any:
    """`vice.regions.kernels` where they take an embedding, else None."""
    if not embeddings.is_cuda or torch.are_deterministic_algorithms_enabled():
        return None
    kernels = _kernels()
    return kernels if kernels is not None and kernels.supports(embeddings) else None


@cache
def _kernels() -> Any:
    try:
        from vice.regions import kernels
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
    coherence_gradient: str = "constant",
) -> tuple[RegionVectors, Tensor]:
    """The pixel that fits a prototype best stands for its region (authors' high-res configs).

    How, is told in `vice.regions.representatives`; memory is that of the embedding and of a few
    numbers a pixel.

    Args:
        embeddings: (B, D, h', w') float.
        regions: (B, h, w) integer, -1 where there is no region, or what `index_regions` made of it.
        prototypes: (K, D) unit rows.
        num_regions: Exclusive upper bound on the region ids.
        align_corners: How the embedding is upsampled to (h, w).
        coherence_gradient: What the representative is to the gradient of the coherence:
            ``"constant"``, a fixed target (the authors' criterion), or ``"through"``, a pixel as
            the others are.

    Returns:
        The unit vectors of the representatives as `RegionVectors`, and the coherence (R,): the
        mean Euclidean distance of a region's pixels, unit length too, to its representative.
        Between equal scores the first pixel in scan order wins.

    Raises:
        ValueError: Batch sizes that differ, no integers or no pixels, an id outside
            ``num_regions``, prototypes that do not fit, or an unknown ``coherence_gradient``.
    """
    if coherence_gradient not in COHERENCE_GRADIENTS:
        raise ValueError(
            f"coherence_gradient must be one of {COHERENCE_GRADIENTS}, not {coherence_gradient!r}"
        )
    numbered = _numbered(embeddings, regions, num_regions)
    if prototypes.dim() != 2 or not len(prototypes) or prototypes.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"prototypes must be (K, {embeddings.shape[1]}) with K of at least 1, not "
            f"{tuple(prototypes.shape)}"
        )
    options = {"align_corners": align_corners, "through": coherence_gradient == "through"}
    with torch.autocast(embeddings.device.type, enabled=False):
        vectors, coherence = region_representatives(
            embeddings, prototypes.detach(), numbered, options
        )
    return RegionVectors(vectors, numbered.counts, numbered.index), coherence


def region_representatives(
    embeddings: Tensor,
    prototypes: Tensor,
    numbered: RegionIndex,
    options: dict[str, bool],
) -> tuple[Tensor, Tensor]:
    """Representatives (R, D) and coherence (R,) by the path that `region_means` would take."""
    if (kernels := _kernels_for(embeddings)) is not None:
        function, taken = kernels.FusedRepresentatives, embeddings
    else:
        taken = full_precision(embeddings)
        if compiled.takes(taken):
            function = compiled.CompiledRepresentatives
        elif representatives_fit(taken, numbered):
            function = SmallRepresentatives
        else:
            function = Representatives
    like = torch.float64 if taken.dtype == torch.float64 else torch.float32
    return function.apply(taken, prototypes.to(like), numbered, options)

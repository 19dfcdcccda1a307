"""Numbering of regions, and one vector for each of them."""

from vice.regions.mutual import MutualRegions
from vice.regions.numbering import RegionIndex, index_regions
from vice.regions.pool import (
    NORMALIZE_MODES,
    RegionVectors,
    pool_regions,
    region_means,
    region_representatives,
    representative_regions,
)
from vice.regions.representatives import COHERENCE_GRADIENTS

__all__ = [
    "COHERENCE_GRADIENTS",
    "NORMALIZE_MODES",
    "MutualRegions",
    "RegionIndex",
    "RegionVectors",
    "index_regions",
    "pool_regions",
    "region_means",
    "region_representatives",
    "representative_regions",
]

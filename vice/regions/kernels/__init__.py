"""Triton kernels of region vectors; what they compute is told where plain PyTorch does it.

Sums go through atomic additions in float32, so their order, and the last digits, may differ from
call to call; the plain paths (`vice.regions.means`, `vice.regions.representatives`) are
deterministic.
"""

from vice.regions.kernels.blocks import supports
from vice.regions.kernels.means import FusedMeans
from vice.regions.kernels.representatives import FusedRepresentatives

__all__ = ["FusedMeans", "FusedRepresentatives", "supports"]

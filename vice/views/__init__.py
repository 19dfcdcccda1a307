"""Placing, cutting and changing the color of views."""

from vice.views.sampler import NoMutualRegions, Placement, Views, ViewSampler

__all__ = ["NoMutualRegions", "Placement", "ViewSampler", "Views"]

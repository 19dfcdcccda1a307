"""Losses over regions."""

from vice.losses.swav import DenseSwAVLoss, swapped_prediction
from vice.regions import MutualRegions

__all__ = ["DenseSwAVLoss", "MutualRegions", "swapped_prediction"]

"""Losses over regions."""

from vice.losses.swav import DenseSwAVLoss, swapped_prediction
from vice.regions import BatchRegions

__all__ = ["BatchRegions", "DenseSwAVLoss", "swapped_prediction"]

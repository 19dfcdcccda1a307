"""Losses over regions."""

from vice.losses.batch import BatchRegions
from vice.losses.swav import DenseSwAVLoss, swapped_prediction

__all__ = ["BatchRegions", "DenseSwAVLoss", "swapped_prediction"]

"""Losses over regions."""

from vice.losses.swav import DenseSwAVLoss, match_views, swapped_prediction

__all__ = ["DenseSwAVLoss", "match_views", "swapped_prediction"]

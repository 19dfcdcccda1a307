"""The user's object: load a checkpoint, embed and segment images of any size."""

from vice.predictor.loading import load
from vice.predictor.predictor import Predictor

__all__ = ["Predictor", "load"]

"""Backbones, decoders, the dense embedder, and the concepts that its pixels are compared with."""

from vice.model_specs import DECODERS, RESNETS
from vice.models.building import build_embedder, seeded_embedder
from vice.models.concepts import Concepts
from vice.models.deeplabv3plus import DeepLabV3Plus
from vice.models.embedder import Embedder
from vice.models.embedder_options import EmbedderOptions
from vice.models.fpn import FPN
from vice.models.progressive_upsampling import ProgressiveUpsampling
from vice.models.prototypes import Prototypes
from vice.models.resnet import ResNetFeatures

__all__ = [
    "DECODERS",
    "FPN",
    "RESNETS",
    "Concepts",
    "DeepLabV3Plus",
    "Embedder",
    "EmbedderOptions",
    "ProgressiveUpsampling",
    "Prototypes",
    "ResNetFeatures",
    "build_embedder",
    "seeded_embedder",
]

"""Any dense embedder as a frozen backbone of MMSegmentation."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from vice import extractors
from vice.embedding_cache import EmbeddingCache


@MODELS.register_module()
class ViceBackbone(BaseModule):
    """A frozen embedder: evaluation mode and no gradient, whatever the trainer says.

    Args:
        spec: What `vice.extractors.load_extractor` takes, for example a run folder.
        seed: Seed of random weights.
        embedder: A ready embedder instead of ``spec``.
        cache_bytes: Budget for keeping embeddings of images that come again; 0 keeps none.

    Attributes:
        dim: Width D of the embedding.
    """

    def __init__(
        self,
        spec: str | None = None,
        *,
        seed: int = 0,
        embedder: nn.Module | None = None,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__()
        if (spec is None) == (embedder is None):
            raise ValueError("ViceBackbone needs either spec or embedder")
        if embedder is None:
            embedder = extractors.load_extractor(str(spec), seed=seed)
        self.dim: int = embedder.dim
        self.spherical = extractors.is_spherical(embedder)
        self.embedder = embedder.eval().requires_grad_(False)
        # Inside a tuple the cache is no submodule: checkpoints hold each weight once.
        self._embed = (EmbeddingCache(embedder, cache_bytes) if cache_bytes else embedder,)

    def init_weights(self) -> None:
        """Does nothing: the weights are what is being evaluated."""

    def train(self, mode: bool = True) -> ViceBackbone:
        """Sets the flag of this wrapper; the embedder stays in evaluation mode."""
        super().train(mode)
        self.embedder.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            The embedding (B, D, h, w), alone in a tuple as decode heads expect.
        """
        return (self._embed[0](images),)

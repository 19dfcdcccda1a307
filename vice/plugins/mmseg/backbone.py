"""Any dense embedder as a frozen backbone of MMSegmentation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from vice.errors import UserError, noted
from vice.evaluation.embedding_cache import EmbeddingCache
from vice.models import load as extractors
from vice.models.decoder_features import DecoderFeatures
from vice.models.embeddings import NONFINITE, CheckedEmbedder, FiniteWatch, named
from vice.runtime.provenance import digest


class SharedEmbedder:
    """A loaded embedder with its cache, for all models that score it; no submodule of any.

    Args:
        embedder: The module.
        cache_bytes: Budget for keeping embeddings.
        origin: Arguments of a `ViceBackbone` that mean this embedder; None for one without.

    Attributes:
        embedder: The module.
        embed: The module with its outputs checked, behind an `EmbeddingCache` where there is a
            budget.
        head: Arguments of a decode head that are no part of a config, such as a memory; handed
            over with the embedder.
    """

    def __init__(
        self,
        embedder: nn.Module,
        cache_bytes: int = 0,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.embedder = embedder
        self.origin = origin
        self.head: dict[str, Any] = {}
        checked = CheckedEmbedder(embedder)
        self.embed = EmbeddingCache(checked, cache_bytes) if cache_bytes else checked

    def hand_to(self, backbone: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a backbone with this embedder in it, if it is the one that is meant.

        Args:
            backbone: Config of a `ViceBackbone`, or of another backbone.
        """
        is_vice = backbone.get("type") == ViceBackbone.__name__ and backbone.get("frozen", True)
        asked = {"spec": None, "seed": 0, "cache_bytes": 0, "features": "embedding"}
        asked.update({name: backbone[name] for name in asked if name in backbone})
        return {**backbone, **({"shared": self} if is_vice and asked == self.origin else {})}

    @cached_property
    def digest(self) -> str:
        """Of the weights, see `vice.runtime.provenance.digest`; what is trained changes it."""
        return digest(self.embedder)

    def describe(self) -> dict[str, Any]:
        """What a result says of the embedder."""
        return {
            "digest": self.digest,
            "dim": self.embedder.dim,
            "spherical": extractors.is_spherical(self.embedder),
            "architecture": getattr(self.embedder, "config", type(self.embedder).__name__),
            "weights": getattr(self.embedder, "weight_source", None),
            **getattr(self.embedder, "provenance", {}),
        }


def share_embedder(
    spec: str, seed: int = 0, cache_bytes: int = 0, features: str = "embedding"
) -> SharedEmbedder:
    """Loads an embedder once for all backbones that it is handed to.

    Args:
        spec: As in `vice.models.load.load_extractor`.
        seed: Seed of random weights.
        cache_bytes: Budget for keeping embeddings.
        features: Which dense output, ``"embedding"`` or ``"decoder"``.
    """
    origin = {"spec": spec, "seed": seed, "cache_bytes": cache_bytes, "features": features}
    return SharedEmbedder(_load(spec, seed, features), cache_bytes, origin)


def _load(spec: str, seed: int, features: str) -> nn.Module:
    embedder = extractors.load_extractor(spec, seed=seed)
    return DecoderFeatures(embedder) if features == "decoder" else embedder


@MODELS.register_module()
class ViceBackbone(BaseModule):
    """An embedder, frozen by default: evaluation mode, no gradient, whatever the trainer says.

    Args:
        spec: What `vice.models.load.load_extractor` takes, for example a run folder.
        seed: Seed of random weights.
        embedder: A ready embedder instead of ``spec``.
        shared: What ``spec`` means, loaded already; see `SharedEmbedder.hand_to`.
        cache_bytes: Budget for keeping embeddings of images that come again; 0 keeps none.
        flip_average: Whether the embedding, outside training, is the mean of that of the image and
            that of its mirror image, mirrored back.
        frozen: False fine-tunes the embedder.
        features: Which dense output of ``spec``, ``"embedding"`` or ``"decoder"``, what a decoder
            projects the embedding from.

    Attributes:
        dim: Width D of the embedding.
        watch: Refuses embeddings that are not finite, or too large.
    """

    def __init__(
        self,
        spec: str | None = None,
        *,
        seed: int = 0,
        embedder: nn.Module | None = None,
        shared: SharedEmbedder | None = None,
        cache_bytes: int = 0,
        flip_average: bool = False,
        frozen: bool = True,
        features: str = "embedding",
    ) -> None:
        super().__init__()
        if (spec is None) == (embedder is None):
            raise ValueError("ViceBackbone needs either spec or embedder")
        if cache_bytes and not frozen:
            raise ValueError("embeddings that are being trained cannot be kept: cache_bytes=0")
        if shared is None:
            embedder = embedder or _load(str(spec), seed, features)
            shared = SharedEmbedder(embedder, cache_bytes)
        self._source = shared
        embedder = shared.embedder
        self.dim: int = embedder.dim
        self.spherical = extractors.is_spherical(embedder)
        self.flip_average = flip_average
        self.frozen = frozen
        self.watch = FiniteWatch()
        self.embedder = embedder.eval().requires_grad_(not frozen)

    def init_weights(self) -> None:
        """Does nothing: the weights are what is being evaluated."""

    def train(self, mode: bool = True) -> ViceBackbone:
        """Sets the flag of this wrapper; a frozen embedder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.embedder.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.

        Returns:
            The embedding, float32 (B, D, h, w), alone in a tuple as decode heads expect.

        Raises:
            UserError: The embedder returned something else, or numbers that are not finite.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            embedding = self._embed(images)
            if self.flip_average and not self.training:
                mirrored = self._embed(images.flip(3)).flip(3)
                if mirrored.shape != embedding.shape:
                    raise UserError(
                        f"{named(self.watch.names, 0)}: the embedder returned "
                        f"{tuple(embedding.shape)}, and {tuple(mirrored.shape)} for the mirror "
                        "image, which flip_average=true averages it with"
                    )
                embedding = (embedding + mirrored) / 2
        # What is being trained and grows ends in infinity, whose cause is the rate.
        problem = NONFINITE if self.frozen else _DIVERGED
        self.watch.see(embedding, problem, embedding=self.frozen)
        return (embedding,)

    def _embed(self, images: Tensor) -> Tensor:
        try:
            with noted(f"while {', '.join(map(str, self.watch.names)) or 'images'} were embedded"):
                return self._source.embed(images).float()
        except UserError as error:
            raise UserError(f"{named(self.watch.names, 0)}: {error}") from error


_DIVERGED = (
    f"{NONFINITE} (if it was sound before it was fine-tuned: lower linear_lr or --backbone-lr-mult)"
)

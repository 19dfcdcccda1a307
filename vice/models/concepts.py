"""Concepts: K vectors that pixels are compared with, and the nearest one of each pixel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.models.upsampled_argmax import MOST_UPSAMPLED, argmax_rows, argmax_upsampled
from vice.models.upsampling import RowsBetween, bands

#: What is compared with the concepts: a pixel's direction (its vector at unit length), or its
#: vector as the embedder gives it.
UNIT, RAW = "unit", "raw"
SPACES = (UNIT, RAW)
#: Most bytes of scores at the model's stride that exist at a time.
MOST_SCORES = 2**29


@dataclass(frozen=True, eq=False)
class Concepts:
    """A linear classifier without labels: a pixel belongs to the concept of the greatest score.

    The score of concept k for a pixel vector z is ``z @ vectors[k] + bias[k]``. That covers
    prototypes and centroids of spherical k-means (unit vectors, no bias), centroids of Euclidean
    k-means (`euclidean`), and the weights of a 1x1 convolution.

    Attributes:
        vectors: (K, D) floating point.
        bias: (K,), or None for none.
        space: ``"unit"`` if pixel vectors are scaled to unit length before they are compared,
            ``"raw"`` if not; without a bias their length never changes which concept is nearest.
        name: What they are, in the plural, for messages.

    Raises:
        ValueError: Shapes that do not go together, or an unknown space.

    Example:
        >>> import torch
        >>> from vice.models import Concepts
        >>> points = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
        >>> Concepts(torch.eye(2)).nearest(points).tolist()  # by direction
        [0, 1]
        >>> Concepts.euclidean(torch.tensor([[9.0, 1.0], [1.0, 2.0]])).nearest(points).tolist()
        [1, 1]
    """

    vectors: Tensor
    bias: Tensor | None = None
    space: str = UNIT
    name: str = "concepts"

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not len(self.vectors):
            raise ValueError(f"concepts are (K, D), not {tuple(self.vectors.shape)}")
        if self.bias is not None and self.bias.shape != self.vectors.shape[:1]:
            raise ValueError(f"{len(self.vectors)} concepts, but biases {tuple(self.bias.shape)}")
        if self.space not in SPACES:
            raise ValueError(f"space {self.space!r} is none of {', '.join(SPACES)}")

    @classmethod
    def euclidean(cls, vectors: Tensor, name: str = "concepts") -> Concepts:
        """Points whose nearest is the one at the least Euclidean distance.

        ``|z - c|^2 = |z|^2 - 2 (z @ c - |c|^2 / 2)``, so the bias is ``-|c|^2 / 2``.

        Args:
            vectors: (K, D) points.
            name: As in the class.
        """
        return cls(vectors, vectors.square().sum(1) / -2, RAW, name)

    def __len__(self) -> int:
        return len(self.vectors)

    def to(self, target: torch.device | str | torch.dtype) -> Concepts:
        """The same on another device or of another dtype."""
        bias = None if self.bias is None else self.bias.to(target)
        return dataclasses.replace(self, vectors=self.vectors.to(target), bias=bias)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Scores of each concept, as a 1x1 convolution.

        Scores are linear in a pixel's vector, so they can be computed at the stride of the model
        and upsampled bilinearly, which equals upsampling the embedding first. (With a bias in unit
        space that holds for embeddings of unit length at the model's stride.)

        Args:
            embeddings: (B, D, h, w).

        Returns:
            (B, K, h, w), same dtype and device.

        Raises:
            UserError: The embedding is not as wide as the concepts.
        """
        points, weight, bias = self._ready(embeddings)
        return F.conv2d(points, weight[:, :, None, None], bias)

    def nearest(self, vectors: Tensor, *, max_bytes: int = MOST_SCORES) -> Tensor:
        """The concept of greatest score of each vector, in bounded memory.

        Args:
            vectors: (N, D).
            max_bytes: Most bytes of scores that exist at a time (at least one vector's do).

        Returns:
            int64 (N,).

        Raises:
            UserError: As in `scores`.
        """
        at_once = max(1, max_bytes // (len(self) * vectors.element_size()))
        return torch.cat(
            [F.linear(*self._ready(part)).argmax(1) for part in vectors.split(at_once)]
        )

    def _ready(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embeddings (B, D, ...), weight (K, D) and bias of the linear map to the scores."""
        if embeddings.shape[1] != self.vectors.shape[1]:
            raise UserError(
                f"the embedding has {embeddings.shape[1]} dimensions but the {self.name} have "
                f"{self.vectors.shape[1]}: they belong to another model"
            )
        weight = self.vectors.to(embeddings)
        if self.bias is None:
            return embeddings, weight, None
        if self.space == UNIT:
            embeddings = F.normalize(embeddings, dim=1)
        return embeddings, weight, self.bias.to(embeddings)

    def nearest_map(
        self,
        embeddings: Tensor,
        size: tuple[int, int],
        *,
        max_bytes: int = MOST_UPSAMPLED,
        max_score_bytes: int = MOST_SCORES,
    ) -> Tensor:
        """The nearest concept of each pixel at full resolution, in bounded memory.

        Scores are computed at the model's stride and upsampled bilinearly before the greatest is
        taken. Where those of all rows would take too much memory, rows are scored when they are
        needed.

        Args:
            embeddings: (B, D, h, w).
            size: (H, W) of the result.
            max_bytes: As in `argmax_upsampled`.
            max_score_bytes: Most bytes of scores at the model's stride that are held whole.

        Returns:
            int64 (B, H, W).

        Raises:
            UserError: As in `scores`.
        """
        batch, _, height, width = embeddings.shape
        row_bytes = batch * len(self) * embeddings.element_size()
        if row_bytes * height * width <= max_score_bytes:
            return argmax_upsampled(self.scores(embeddings), size, max_bytes=max_bytes)
        # Downsampling needs several rows of scores for one of labels.
        row_bytes *= max(size[1], width * -(-height // size[0]))
        labels = torch.empty(batch, *size, dtype=torch.int64, device=embeddings.device)
        numbers = torch.arange(size[0], device=embeddings.device)
        every = RowsBetween.of(numbers, embeddings, size[0])
        for band in bands(size[0], max_bytes // row_bytes):
            rows = every[band]
            first, last = int(rows.above[0]), int(rows.below[-1])
            scores = self.scores(embeddings[:, :, first : last + 1])
            labels[:, band] = argmax_rows(scores, rows.from_row(first), size[1], max_bytes)
        return labels

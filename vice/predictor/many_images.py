"""The doors of the user's object for many images: in their order, equal sizes together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vice.predictor.computing import IMAGE, Computing, check_stride
from vice.predictor.many import batches, sources
from vice.predictor.precision import check_result

if TYPE_CHECKING:
    from vice.predictor.given_concepts import Vectors

logger = logging.getLogger(__name__)


class ManyImages(Computing):
    """What `vice.Predictor` does with folders, lists and streams of images."""

    @torch.no_grad()
    def embed_all(
        self,
        images: Any,
        stride: str = IMAGE,
        *,
        batch_size: int = 8,
        skip: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[tuple[Any, Tensor]]:
        """`embed` of many images, in their order; consecutive ones of a size share a forward pass.

        Args:
            images: A folder or a list of paths, as in `vice.images.list_images`; a batch (B, H, W,
                3) or (B, 3, H, W); or anything iterable of images, each as in `embed`, of which at
                most three batches are held at a time.
            stride: As in `embed`.
            batch_size: Most images at a time.
            skip: Whether images that cannot be read are left out: named in ``unread``, and counted
                in the log. The first one ends it otherwise.
            dtype: As in `embed`.

        Yields:
            Of each image its path (or its number), and what `embed` returns.

        Raises:
            UserError: As in `embed`, or there are no images.
        """
        check_stride(stride)
        check_result(dtype)
        for names, pixels in self._batches(images, batch_size, skip):
            given = (pixels.shape[1], pixels.shape[2])
            for name, dense in zip(names, self._dense(self.embedder, pixels, names), strict=True):
                yield name, self._finished(dense[None], given, stride).to(dtype)

    @torch.no_grad()
    def segment_all(
        self,
        images: Any,
        concepts: Vectors | None = None,
        *,
        batch_size: int = 8,
        skip: bool = False,
    ) -> Iterator[tuple[Any, Tensor]]:
        """`segment` of many images, as `embed_all`.

        Args:
            images: As in `embed_all`.
            concepts: As in `segment`.
            batch_size: As in `embed_all`.
            skip: As in `embed_all`.

        Yields:
            Of each image its path (or its number), and what `segment` returns.

        Raises:
            UserError: As in `segment`, or there are no images.
        """
        compared = self._concepts(concepts)
        for names, pixels in self._batches(images, batch_size, skip):
            given = (pixels.shape[1], pixels.shape[2])
            for name, dense in zip(names, self._dense(self.embedder, pixels, names), strict=True):
                yield name, compared.nearest_map(dense[None], given)[0].cpu()

    def _batches(
        self, images: Any, batch_size: int, skip: bool
    ) -> Iterator[tuple[list[Any], np.ndarray]]:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be 1 or more")
        self.unread = {}
        found = sources(images)
        yield from batches(found, batch_size, self._pixels, self.unread if skip else None)
        if self.unread:
            logger.warning(
                "%d images cannot be read and were left out; the first: %s",
                len(self.unread), next(iter(self.unread.values())),
            )  # fmt: skip

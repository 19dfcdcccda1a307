"""What the user's object computes by: an image as a whole or in tiles, many in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError, noted
from vice.images.clipping import Clipping
from vice.images.note_counts import NoteCounts
from vice.models.centroids import Centroids
from vice.models.checkpoint import Checkpoint
from vice.models.concepts import Concepts
from vice.models.embeddings import FiniteWatch
from vice.models.load import is_spherical
from vice.predictor.given_concepts import given_concepts
from vice.predictor.given_images import Given, given_image
from vice.predictor.plan import Plan, Tiling
from vice.predictor.precision import computed_in, half_type
from vice.predictor.results import Tile, native, nearest, of_pixels, scaled
from vice.predictor.tiled import TiledNetwork
from vice.predictor.transform import network_input
from vice.runtime.amounts import to_bytes
from vice.runtime.provenance import digest

logger = logging.getLogger(__name__)
#: What a vector is given to: each pixel, or each cell of the network.
IMAGE, NATIVE = "image", "native"
#: Share of the values of an image outside of a scale above which it is said.
_OUTSIDE = 0.05


class Computing:
    """What `vice.Predictor`, which has the arguments, computes by."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | torch.device = "cpu",
        name: str | None = None,
        max_pixels: int | None = None,
        precision: str = "float32",
    ) -> None:
        if max_pixels is not None and not (isinstance(max_pixels, int) and max_pixels > 0):
            raise ValueError(f"max_pixels={max_pixels!r}: must be a whole number above 0, or None")
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.embedder = checkpoint.embedder.to(self.device)
        self.name = name or str(checkpoint.path)
        self.max_pixels = max_pixels
        self.precision, self._half = precision, half_type(precision, self.device)
        self.reading = checkpoint.reading
        self.tiling: Tiling | None = None
        self.unread: dict[str, str] = {}
        self.forget_readings()
        self._tiled: TiledNetwork | None = None
        self._warned = self._said_outside = False
        self._watch = FiniteWatch()

    @property
    def dim(self) -> int:
        """Width D of the embedding."""
        return self.embedder.dim

    @cached_property
    def weights(self) -> str:
        """Digest of the model's parameters and buffers."""
        return digest(self.embedder)

    def forget_readings(self) -> None:
        """Begins to count anew what is found in files while they are read."""
        self.clipping, self.notes = Clipping(), NoteCounts()

    def given(self, image: Any, budget: int | None = None) -> Given:
        """An image as the network is given it, to be given to other calls in its place.

        Args:
            image: As in `vice.Predictor.embed`.
            budget: Bytes that it may take; None: as many as it does.
        """
        given = given_image(image, budget=budget, max_pixels=self.max_pixels, reading=self.reading)
        if given is not image:
            self.notes.add(given.name, given.notes)
            if given.values:
                self.clipping.add(given.outside, given.values)
        if given.outside > _OUTSIDE * given.values and not self._said_outside:
            self._said_outside = True
            logger.warning(
                "%s: %.0f %% of its values lie outside the scale of the model (%s) and are "
                "clipped; of further images it is not said",
                given.name, 100 * given.outside / given.values, self.reading,
            )  # fmt: skip
        return given

    def _pixels(self, image: Any) -> np.ndarray:
        return self.given(image).pixels

    def _concepts(self, concepts: Any) -> Concepts:
        if concepts is None:
            if self.checkpoint.concepts is None:
                raise UserError(
                    f"{self.name} holds no prototypes; pass concepts, (K, {self.dim}) vectors, for "
                    "example the centroids that tools/eval_cluster.py writes "
                    "(vice.models.centroids.Centroids.load)"
                )
            return self.checkpoint.concepts
        if isinstance(concepts, Centroids):
            concepts.require_model(self.weights, self.name)
        spherical = is_spherical(self.embedder)
        return given_concepts(concepts, self.dim, spherical=spherical, device=self.device)

    def _opened(
        self,
        image: Any,
        memory: int | str | None = None,
        exact: bool = False,
        stride: str = IMAGE,
    ) -> tuple[Given, Plan | None]:
        """An image, and its tiles unless it is computed as a whole."""
        check_stride(stride)
        budget = None if memory is None else to_bytes(memory)
        given = self.given(image, budget)
        self.tiling = None
        if budget is None:
            return given, None
        tiled = self._in_tiles()
        plan = tiled.plan(given.size, budget - given.held, exact=exact)
        if plan is not None and not tiled.exact:
            plan = tiled.measured(plan, given.read)
            self._warn(plan.tiling)
        self.tiling = None if plan is None else plan.tiling
        return given, plan

    def _in_tiles(self) -> TiledNetwork:
        # What was found of a network holds for its parameters of any value.
        if self._tiled is None:
            spherical = is_spherical(self.embedder)
            self._tiled = TiledNetwork(self.embedder, self.dim, self.device, self.name, spherical)
        return self._tiled

    def _warn(self, tiling: Tiling) -> None:
        difference = tiling.difference
        if self._warned or difference is None:
            return
        self._warned = True
        logger.warning(
            "%s sees more than a tile of %d x %d pixels: its vectors differ from those of the "
            "whole image, by %.2g on average and %.2g at most on a part of %d x %d pixels "
            "(exact=True refuses it, more memory lessens it)",
            self.name, *tiling.window, difference.mean, difference.most, *difference.size,
        )  # fmt: skip

    def _embedded(self, given: Given, stride: str) -> Tensor:
        dense = self._one(self.embedder, given)
        return self._finished(dense, given.size, stride)

    def _finished(self, dense: Tensor, size: tuple[int, int], stride: str) -> Tensor:
        """Vectors of one image, (1, D, h, w), as `embed` returns them."""
        if stride == IMAGE:
            dense = F.interpolate(dense, size=size, mode="bilinear", align_corners=False)
        return scaled(dense, is_spherical(self.embedder))[0].cpu()

    def _embedded_tiles(self, given: Given, plan: Plan, stride: str) -> Iterator[Tile]:
        spherical = is_spherical(self.embedder)
        for part in self._in_tiles().tiles(plan, given.read, given.name, self._half):
            if stride == IMAGE:
                yield from of_pixels(part, spherical)
            else:
                yield native(part, spherical)

    def _segmented_tiles(self, given: Given, plan: Plan, concepts: Concepts) -> Iterator[Tile]:
        for part in self._in_tiles().tiles(plan, given.read, given.name, self._half):
            yield nearest(part, concepts)

    def _one(self, network: Callable[[Tensor], Tensor], given: Given) -> Tensor:
        return self._dense(network, given.pixels[None], [given.name])

    def _dense(
        self, network: Callable[[Tensor], Tensor], pixels: np.ndarray, names: Sequence[Any]
    ) -> Tensor:
        with (
            computed_in(self._half, self.device),
            noted(f"while {', '.join(map(str, names))} were embedded"),
        ):
            dense = network(network_input(pixels, self.device))
        for name, vectors in zip(names, dense, strict=True):
            self._watch.see_one(vectors, name)
        return dense.float()


def check_stride(stride: str) -> None:
    """Refuses a stride that is neither of the two."""
    if stride not in (IMAGE, NATIVE):
        raise ValueError(f"stride must be {IMAGE!r} or {NATIVE!r}, not {stride!r}")

"""The user's object: embeds and segments images of any size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.models.checkpoint import Checkpoint
from vice.models.concepts import Concepts
from vice.models.embeddings import refuse_nonfinite
from vice.models.load import is_spherical
from vice.normalize import normalize
from vice.predictor.filled import filled
from vice.predictor.given_concepts import given_concepts
from vice.predictor.given_images import Given, given_image
from vice.predictor.memory import to_bytes
from vice.predictor.plan import Plan, Tiling
from vice.predictor.results import Tile, native, nearest, of_pixels, scaled, whole
from vice.predictor.tiled import TiledNetwork

if TYPE_CHECKING:
    from vice.predictor.given_concepts import Vectors
    from vice.predictor.given_images import Picture

logger = logging.getLogger(__name__)
#: What a vector is given to: each pixel, or each cell of the network.
IMAGE, NATIVE = "image", "native"


class Predictor:
    """An embedder that embeds and segments images of any size.

    Args:
        checkpoint: What `vice.models.checkpoint.load_checkpoint` returns.
        device: Where to compute.
        name: What the user calls it, for messages; None takes the checkpoint's path.
        max_pixels: Most pixels of a file that is decoded as a whole; None for Pillow's limit, by
            default 178,956,970.

    Attributes:
        embedder: The module.
        tiling: How the last image was computed that ``memory`` was given for; None as a whole.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | torch.device = "cpu",
        name: str | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.embedder = checkpoint.embedder.to(self.device)
        self.name = name or str(checkpoint.path)
        self.max_pixels = max_pixels
        self.tiling: Tiling | None = None
        self._tiled: TiledNetwork | None = None
        self._warned = False

    @property
    def dim(self) -> int:
        """Width D of the embedding."""
        return self.embedder.dim

    # Not inference_mode: the embedder may be one in training, and what a module keeps for its next
    # call must then be fit for a backward pass.
    @torch.no_grad()
    def embed(
        self,
        image: Picture,
        stride: str = IMAGE,
        *,
        memory: int | str | None = None,
        exact: bool = False,
        out: str | Path | None = None,
    ) -> Tensor:
        """Embeds one image at its own resolution, or at the network's.

        Args:
            image: (H, W, 3) uint8 RGB, the path of an image file, or an image of Pillow, which is
                turned as its EXIF orientation says.
            stride: ``"image"`` for a vector of each pixel, interpolated bilinearly; ``"native"``
                for one of each cell of the network, a sixteenth of the memory at stride 4.
            memory: Most memory beside the result, in bytes or as ``"2GiB"``. An image that needs
                more is computed in tiles that overlap; they equal the whole but for rounding where
                cells see a bounded part of it, else the difference is measured, said, and kept in
                ``tiling``. None computes it as a whole.
            exact: Whether to refuse tiles that differ from the whole.
            out: A file that the result is written to, as `numpy.load` reads it, and mapped from:
                for results larger than memory.

        Returns:
            (D, H, W), or (D, h, w), float32 on the CPU, each vector of unit length (of ``lab``,
            whose lengths count: as it is).

        Raises:
            UserError: The file cannot be read, the array is not an RGB image, or its embedding is
                not finite; too little memory; tiles that ``exact`` refuses.
            ValueError: Another stride.

        Example:
            >>> import numpy as np
            >>> import vice
            >>> photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
            >>> vectors = vice.load("random:resnet18-fpn-8", device="cpu").embed(photo)
            >>> lengths = vectors.norm(dim=0)
            >>> round(float(lengths.min()), 4), round(float(lengths.max()), 4)
            (1.0, 1.0)
        """
        given, plan = self._opened(image, memory, exact, stride)
        if plan is None:
            values = self._embedded(given, stride)
            return values if out is None else filled(whole(values), values.shape, out)
        size = given.size if stride == IMAGE else plan.layout.whole.grid
        return filled(self._embedded_tiles(given, plan, stride), (self.dim, *size), out)

    @torch.no_grad()
    def embed_tiles(
        self,
        image: Picture,
        stride: str = IMAGE,
        *,
        memory: int | str,
        exact: bool = False,
    ) -> Iterator[Tile]:
        """What `embed` gives, a part after the other, for results larger than memory.

        Args:
            image: As in `embed`.
            stride: As in `embed`.
            memory: As in `embed`.
            exact: As in `embed`.

        Yields:
            Parts that cover the result without overlap: ``rows`` and ``columns``, where they lie in
            it, and ``values`` (D, rows, columns).

        Raises:
            UserError: As in `embed`.
        """
        given, plan = self._opened(image, memory, exact, stride)
        if plan is None:
            yield from whole(self._embedded(given, stride))
        else:
            yield from self._embedded_tiles(given, plan, stride)

    @torch.no_grad()
    def segment(
        self,
        image: Picture,
        concepts: Vectors | None = None,
        *,
        memory: int | str | None = None,
        exact: bool = False,
        out: str | Path | None = None,
    ) -> Tensor:
        """Gives each pixel its most similar concept.

        Args:
            image: As in `embed`.
            concepts: (K, D) vectors, of which only the direction counts (of ``lab``: the point);
                a list of K vectors, or a dict of name to vector, in its order;
                `vice.models.Concepts`; or the centroids that `vice.clustering.fit_kmeans` or
                tools/eval_cluster.py fitted. None takes the checkpoint's own.
            memory: As in `embed`.
            exact: As in `embed`.
            out: As in `embed`.

        Returns:
            (H, W) int64 on the CPU, 0..K-1.

        Raises:
            UserError: As in `embed`, there are no prototypes and no concepts were given, or the
                concepts are no (K, D) finite numbers.

        Example:
            >>> import numpy as np
            >>> import vice
            >>> photo = np.zeros((2, 4, 3), np.uint8)
            >>> photo[:, 1:] = 255
            >>> black, white = [0, 0, 0], [100, 0, 0]
            >>> vice.load("lab", device="cpu").segment(photo, np.array([black, white])).tolist()
            [[0, 1, 1, 1], [0, 1, 1, 1]]
        """
        compared = self._concepts(concepts)
        given, plan = self._opened(image, memory, exact)
        if plan is None:
            labels = compared.nearest_map(self._dense(self.embedder, given), given.size)[0].cpu()
            return labels if out is None else filled(whole(labels), labels.shape, out)
        return filled(self._segmented_tiles(given, plan, compared), given.size, out, torch.int64)

    @torch.no_grad()
    def segment_tiles(
        self,
        image: Picture,
        concepts: Vectors | None = None,
        *,
        memory: int | str,
        exact: bool = False,
    ) -> Iterator[Tile]:
        """What `segment` gives, a part after the other, as `embed_tiles`.

        Args:
            image: As in `embed`.
            concepts: As in `segment`.
            memory: As in `embed`.
            exact: As in `embed`.

        Yields:
            Parts whose ``values`` are int64 (rows, columns).

        Raises:
            UserError: As in `segment`.
        """
        compared = self._concepts(concepts)
        given, plan = self._opened(image, memory, exact)
        if plan is None:
            dense = self._dense(self.embedder, given)
            yield from whole(compared.nearest_map(dense, given.size)[0].cpu())
        else:
            yield from self._segmented_tiles(given, plan, compared)

    @torch.no_grad()
    def segment_each(self, image: Picture, sets: Sequence[Vectors | None]) -> list[Tensor]:
        """What `segment` gives for several sets of concepts; the image is embedded once.

        Args:
            image: As in `embed`.
            sets: Concepts, each as in `segment`.

        Returns:
            For each set (H, W) int64 on the CPU.

        Raises:
            UserError: As in `segment`.
        """
        given, _ = self._opened(image)
        compared = [self._concepts(concepts) for concepts in sets]
        dense = self._dense(self.embedder, given)
        return [each.nearest_map(dense, given.size)[0].cpu() for each in compared]

    @torch.no_grad()
    def saliency(self, image: Picture) -> Tensor:
        """How likely each pixel is foreground, of a model that was trained to say so.

        Args:
            image: As in `embed`.

        Returns:
            (H, W) float32 on the CPU, raw logits: above 0 foreground is more likely.

        Raises:
            UserError: As in `embed`, or the model has no such output.
        """
        find = getattr(self.embedder, "foreground", None)
        if find is None:
            raise UserError(
                f"{self.name} has no saliency: only methods that learn one (docs/training.md) do"
            )
        given, _ = self._opened(image)
        logits = self._dense(find, given)
        return F.interpolate(logits, given.size, mode="bilinear", align_corners=False)[0, 0].cpu()

    def _concepts(self, concepts: Any) -> Concepts:
        if concepts is None:
            if self.checkpoint.concepts is None:
                raise UserError(
                    f"{self.name} holds no prototypes; pass concepts, (K, {self.dim}) vectors, for "
                    "example the centroids that tools/eval_cluster.py writes "
                    "(vice.models.centroids.Centroids.load)"
                )
            return self.checkpoint.concepts
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
        if stride not in (IMAGE, NATIVE):
            raise ValueError(f"stride must be {IMAGE!r} or {NATIVE!r}, not {stride!r}")
        budget = None if memory is None else to_bytes(memory)
        given = given_image(image, budget=budget, max_pixels=self.max_pixels)
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
        dense = self._dense(self.embedder, given)
        if stride == IMAGE:
            dense = F.interpolate(dense, size=given.size, mode="bilinear", align_corners=False)
        return scaled(dense, is_spherical(self.embedder))[0].cpu()

    def _embedded_tiles(self, given: Given, plan: Plan, stride: str) -> Iterator[Tile]:
        spherical = is_spherical(self.embedder)
        for part in self._in_tiles().tiles(plan, given.read, given.name):
            if stride == IMAGE:
                yield from of_pixels(part, spherical)
            else:
                yield native(part, spherical)

    def _segmented_tiles(self, given: Given, plan: Plan, concepts: Concepts) -> Iterator[Tile]:
        for part in self._in_tiles().tiles(plan, given.read, given.name):
            yield nearest(part, concepts)

    def _dense(self, network: Callable[[Tensor], Tensor], given: Given) -> Tensor:
        pixels = given.pixels
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        dense = network(normalize(batch.to(self.device)))
        refuse_nonfinite(dense, str(given.name))
        return dense.float()

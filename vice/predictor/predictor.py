"""The user's object: embeds and segments images of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.predictor.computing import IMAGE, NATIVE
from vice.predictor.filled import filled
from vice.predictor.hub import OnHub
from vice.predictor.many_images import ManyImages
from vice.predictor.precision import check_result
from vice.predictor.results import Tile, whole
from vice.predictor.transform import Transform

if TYPE_CHECKING:
    from vice.predictor.given_concepts import Vectors
    from vice.predictor.given_images import Picture


class Predictor(OnHub, ManyImages):
    """An embedder that embeds and segments images of any size.

    Args:
        checkpoint: What `vice.models.checkpoint.load_checkpoint` returns.
        device: Where to compute.
        name: What the user calls it, for messages; None takes the checkpoint's path.
        max_pixels: Most pixels of a file that is decoded as a whole; None for Pillow's limit, by
            default 178,956,970.
        precision: ``"float32"``; or ``"bfloat16"`` or ``"float16"``, in which the network is
            computed under autocast where 16 bits are enough. Vectors differ by their rounding, in
            tiles too.

    Attributes:
        embedder: The module.
        reading: How the images of its training were read, and so all that it is given: scale, bands
            and page; None as 8-bit RGB.
        tiling: How the last image was computed that ``memory`` was given for; None as a whole.
        unread: Images that the last `embed_all` or `segment_all` left out, with the reason.
        clipping: How many values of the files that were read as a whole lie outside of the scale of
            ``reading``.
        notes: What was passed over or converted in such files, and in how many: further frames or
            pages, a colour profile.
    """

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
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Embeds one image at its own resolution, or at the network's.

        Args:
            image: The path of an image file; an image of Pillow, which is turned as its EXIF
                orientation says; or an array or tensor, uint8 or floating point in [0, 1]: (H, W,
                3) or (3, H, W) RGB, (H, W) gray. A model with a ``reading`` takes files of the kind
                that it was trained on, and arrays of their samples.
            stride: ``"image"`` for a vector of each pixel, interpolated bilinearly; ``"native"``
                for one of each cell of the network, a sixteenth of the memory at stride 4.
            memory: Most memory beside the result, in bytes or as ``"2GiB"``. An image that needs
                more is computed in tiles that overlap; they equal the whole but for rounding where
                cells see a bounded part of it, else the difference is measured, said, and kept in
                ``tiling``. None computes it as a whole.
            exact: Whether to refuse tiles that differ from the whole.
            out: A file that the result is written to, as `numpy.load` reads it, and mapped from:
                for results larger than memory.
            dtype: Of the result: float32, or float16 or bfloat16 (which NumPy, and so ``out``, does
                not have).

        Returns:
            (D, H, W), or (D, h, w), of that type on the CPU, each vector of unit length (of
            ``lab``, whose lengths count: as it is).

        Raises:
            UserError: The file cannot be read, the array is no image, or its embedding is
                not finite; too little memory; tiles that ``exact`` refuses.
            ValueError: Another stride or type.

        Example:
            >>> import numpy as np
            >>> import vice
            >>> photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
            >>> vectors = vice.load("random:resnet18-fpn-8", device="cpu").embed(photo)
            >>> lengths = vectors.norm(dim=0)
            >>> round(float(lengths.min()), 4), round(float(lengths.max()), 4)
            (1.0, 1.0)
        """
        check_result(dtype)
        if out is not None and dtype == torch.bfloat16:
            raise ValueError("out is a file of NumPy, which has no bfloat16: take float16")
        given, plan = self._opened(image, memory, exact, stride)
        if plan is None:
            values = self._embedded(given, stride).to(dtype)
            return values if out is None else filled(whole(values), values.shape, out, dtype)
        size = given.size if stride == IMAGE else plan.layout.whole.grid
        return filled(self._embedded_tiles(given, plan, stride), (self.dim, *size), out, dtype)

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
            labels = compared.nearest_map(self._one(self.embedder, given), given.size)[0].cpu()
            return labels if out is None else filled(whole(labels), labels.shape, out, torch.int64)
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
            dense = self._one(self.embedder, given)
            yield from whole(compared.nearest_map(dense, given.size)[0].cpu())
        else:
            yield from self._segmented_tiles(given, plan, compared)

    @property
    def transform(self) -> Transform:
        """What an image goes through before the network, for a data loader."""
        return Transform(self.max_pixels, self.reading)

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
        dense = self._one(self.embedder, given)
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
        logits = self._one(find, given)
        return F.interpolate(logits, given.size, mode="bilinear", align_corners=False)[0, 0].cpu()

    @torch.no_grad()
    def embed_and_segment(
        self,
        image: Picture,
        concepts: Vectors | None = None,
        *,
        memory: int | str | None = None,
        exact: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """What `embed` gives at the network's stride, and `segment`; one pass unless in tiles.

        Args:
            image: As in `embed`.
            concepts: As in `segment`.
            memory: As in `embed`.
            exact: As in `embed`.

        Returns:
            (D, h, w) float32 and (H, W) int64, on the CPU.

        Raises:
            UserError: As in `segment`.
        """
        compared = self._concepts(concepts)
        given, plan = self._opened(image, memory, exact)
        if plan is not None:
            limits: dict[str, Any] = {"memory": memory, "exact": exact}
            return self.embed(image, NATIVE, **limits), self.segment(image, concepts, **limits)
        dense = self._one(self.embedder, given)
        # Labels first: vectors are scaled in place.
        labels = compared.nearest_map(dense, given.size)[0].cpu()
        return self._finished(dense, given.size, NATIVE), labels

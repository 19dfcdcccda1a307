"""The user's object: load a checkpoint, embed and segment images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.images import read_image, upright_rgb
from vice.models.centroids import Centroids
from vice.models.checkpoint import Checkpoint, load_checkpoint
from vice.models.concepts import Concepts
from vice.models.embeddings import refuse_nonfinite
from vice.models.load import is_spherical, load_extractor, names_a_run
from vice.normalize import normalize
from vice.runtime.device_names import check_device

if TYPE_CHECKING:
    from PIL import Image

    Picture = np.ndarray | str | Path | Image.Image
    Vector: TypeAlias = Tensor | np.ndarray
    Vectors: TypeAlias = Vector | Sequence[Vector] | Mapping[str, Vector] | Concepts | Centroids

#: What a vector is given to: each pixel, or each cell of the network.
IMAGE, NATIVE = "image", "native"


class Predictor:
    """An embedder that embeds and segments images of any size.

    Args:
        checkpoint: What `vice.models.checkpoint.load_checkpoint` returns.
        device: Where to compute.
        name: What the user calls it, for messages; None takes the checkpoint's path.

    Attributes:
        embedder: The module.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.embedder = checkpoint.embedder.to(self.device)
        self.name = name or str(checkpoint.path)

    @property
    def dim(self) -> int:
        """Width D of the embedding."""
        return self.embedder.dim

    # Not inference_mode: the embedder may be one in training, and what a module keeps for its next
    # call must then be fit for a backward pass.
    @torch.no_grad()
    def embed(self, image: Picture, stride: str = IMAGE) -> Tensor:
        """Embeds one image at its own resolution, or at the network's.

        Args:
            image: (H, W, 3) uint8 RGB, the path of an image file, or an image of Pillow, which is
                turned as its EXIF orientation says.
            stride: ``"image"`` for a vector of each pixel, interpolated bilinearly; ``"native"``
                for one of each cell of the network, a sixteenth of the memory at stride 4.

        Returns:
            (D, H, W), or (D, h, w), float32 on the CPU, each vector of unit length (of ``lab``,
            whose lengths count: as it is).

        Raises:
            UserError: The file cannot be read, the array is not an RGB image, or its embedding is
                not finite.
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
        if stride not in (IMAGE, NATIVE):
            raise ValueError(f"stride must be {IMAGE!r} or {NATIVE!r}, not {stride!r}")
        pixels = _rgb(image)
        dense = self._embed(pixels, image)
        if stride == IMAGE:
            size = pixels.shape[:2]
            dense = F.interpolate(dense, size=size, mode="bilinear", align_corners=False)
        return (F.normalize(dense, dim=1) if is_spherical(self.embedder) else dense)[0].cpu()

    @torch.no_grad()
    def segment(self, image: Picture, concepts: Vectors | None = None) -> Tensor:
        """Gives each pixel its most similar concept.

        Args:
            image: As in `embed`.
            concepts: (K, D) vectors, of which only the direction counts (of ``lab``: the point);
                a list of K vectors, or a dict of name to vector, in its order;
                `vice.models.Concepts`; or the centroids that `vice.clustering.fit_kmeans` or
                tools/eval_cluster.py fitted. None takes the checkpoint's own.

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
        return self.segment_each(image, [concepts])[0]

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
        pixels = _rgb(image)
        compared = [self._concepts(concepts) for concepts in sets]
        dense = self._embed(pixels, image)
        return [each.nearest_map(dense, pixels.shape[:2])[0].cpu() for each in compared]

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
        pixels = _rgb(image)
        logits = self._dense(find, pixels, image)
        size = pixels.shape[:2]
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0, 0].cpu()

    def _concepts(self, concepts: Any) -> Concepts:
        if concepts is None:
            if self.checkpoint.concepts is None:
                raise UserError(
                    f"{self.name} holds no prototypes; pass concepts, (K, {self.dim}) vectors, for "
                    "example the centroids that tools/eval_cluster.py writes "
                    "(vice.models.centroids.Centroids.load)"
                )
            return self.checkpoint.concepts
        if isinstance(concepts, Concepts | Centroids):
            _check_concepts(concepts.vectors, self.dim)
            return concepts.concepts() if isinstance(concepts, Centroids) else concepts
        vectors = _as_tensor(concepts, self.dim)
        _check_concepts(vectors, self.dim)
        spherical = is_spherical(self.embedder)
        vectors = vectors.to(self.device, torch.float32)
        if spherical and not vectors.norm(dim=1).all():
            raise UserError("one of the concepts is all zeros and has no direction; leave it out")
        return Concepts(F.normalize(vectors, dim=1)) if spherical else Concepts.euclidean(vectors)

    def _embed(self, pixels: np.ndarray, image: Any) -> Tensor:
        return self._dense(self.embedder, pixels, image)

    def _dense(self, network: Callable[[Tensor], Tensor], pixels: np.ndarray, image: Any) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        dense = network(normalize(batch.to(self.device)))
        refuse_nonfinite(dense, image if isinstance(image, str | Path) else "the image")
        return dense.float()


def load(path: str | Path, device: str | torch.device | None = None) -> Predictor:
    """Loads a checkpoint, or any embedder that the scoring tools take, for use.

    Args:
        path: A run folder, ``vice.safetensors``, a VISSL checkpoint of a ViCE run, or what
            `vice.models.load.load_extractor` takes besides: somebody else's file with a ResNet,
            ``timm:NAME@FILE``, ``torchvision:resnet50``, ``random:...``, ``MODULE:CALLABLE`` or
            ``lab``. These have no prototypes: `Predictor.segment` needs concepts.
        device: Where to compute; None takes a GPU when there is one.

    Returns:
        The predictor.

    Raises:
        UserError: Nothing there, a broken file, or no such device.

    Example:
        >>> import numpy as np
        >>> import vice
        >>> predictor = vice.load("random:resnet18-fpn-8", device="cpu")
        >>> photo = np.zeros((48, 64, 3), np.uint8)
        >>> predictor.embed(photo).shape
        torch.Size([8, 48, 64])
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    spec = str(path)
    if names_a_run(spec):
        return Predictor(load_checkpoint(path, device=device), device)
    return Predictor(Checkpoint(load_extractor(spec, device=str(device))), device, spec)


def _as_tensor(concepts: Any, dim: int) -> Tensor:
    vectors = list(concepts.values()) if isinstance(concepts, Mapping) else concepts
    try:
        if isinstance(vectors, list | tuple) and all(hasattr(each, "shape") for each in vectors):
            return torch.stack([torch.as_tensor(each).detach().cpu() for each in vectors])
        concepts = vectors
        return torch.as_tensor(concepts).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"concepts must be (K, {dim}) numbers, an array, a tensor or Centroids ({error})"
        ) from error


def _check_concepts(vectors: Tensor, dim: int) -> None:
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != dim:
        raise UserError(
            f"concepts must be (K, {dim}), a vector a row as wide as the embedding, not "
            f"{tuple(vectors.shape)}"
        )
    if vectors.is_complex() or not vectors.isfinite().all():
        raise UserError(f"concepts must be (K, {dim}) finite real numbers")


def _rgb(image: Any) -> np.ndarray:
    if isinstance(image, (str, Path)):
        return read_image(image)
    if hasattr(image, "getexif"):
        return upright_rgb(image)
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise UserError(
            f"an image must be uint8 RGB of shape (H, W, 3), not {array.dtype} {array.shape}: "
            "scale and choose its bands first, nothing is guessed"
        )
    return array

"""The user's object: load a checkpoint, embed and segment images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.checkpoint import Checkpoint, load_checkpoint
from vice.devices import check_device
from vice.errors import UserError
from vice.images import read_image, upright_rgb
from vice.photometric import normalize


class Predictor:
    """A checkpoint that embeds and segments images of any size.

    Args:
        checkpoint: What `vice.checkpoint.load_checkpoint` returns.
        device: Where to compute.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.embedder = checkpoint.embedder.to(self.device)

    @property
    def dim(self) -> int:
        """Width D of the embedding."""
        return self.embedder.dim

    # Not inference_mode: the embedder may be one in training, and what a module keeps for its next
    # call must then be fit for a backward pass.
    @torch.no_grad()
    def embed(self, image: np.ndarray | str | Path) -> Tensor:
        """Embeds one image at its own resolution.

        Args:
            image: (H, W, 3) uint8 RGB, or the path of an image file.

        Returns:
            (D, H, W) float32 on the CPU, each pixel's vector of unit length.

        Raises:
            UserError: The file cannot be read, or the array is not an RGB image.
        """
        pixels = _rgb(image)
        dense = self._embed(pixels)
        dense = F.interpolate(dense, size=pixels.shape[:2], mode="bilinear", align_corners=False)
        return F.normalize(dense, dim=1)[0].cpu()

    @torch.no_grad()
    def segment(self, image: np.ndarray | str | Path, concepts: Tensor | None = None) -> Tensor:
        """Gives each pixel its most similar concept.

        Args:
            image: As in `embed`.
            concepts: (K, D) unit vectors, for example k-means centroids; None takes the
                checkpoint's prototypes.

        Returns:
            (H, W) int64 on the CPU, 0..K-1.

        Raises:
            UserError: As in `embed`, or there are no prototypes and no concepts were given.
        """
        if concepts is None:
            if self.checkpoint.prototypes is None:
                raise UserError(
                    f"{self.checkpoint.path} holds no prototypes; pass concepts, for example the "
                    "centroids that tools/eval_cluster.py writes"
                )
            concepts = self.checkpoint.prototypes.weight
        pixels = _rgb(image)
        # Scores are linear in the embedding: scoring first and upsampling K maps after it gives
        # the same numbers as scoring each upsampled pixel.
        kernel = concepts.to(self.device, torch.float32)[:, :, None, None]
        scores = F.conv2d(self._embed(pixels), kernel)
        scores = F.interpolate(scores, size=pixels.shape[:2], mode="bilinear", align_corners=False)
        return scores.argmax(dim=1)[0].cpu()

    def _embed(self, pixels: np.ndarray) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        return self.embedder(normalize(batch.to(self.device)))


def load(path: str | Path, device: str | torch.device | None = None) -> Predictor:
    """Loads a checkpoint for use.

    Args:
        path: A run folder, ``vice.safetensors``, or a VISSL checkpoint of a ViCE run.
        device: Where to compute; None takes a GPU when there is one.

    Returns:
        The predictor.

    Raises:
        UserError: Nothing there, a broken file, or no such device.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return Predictor(load_checkpoint(path, device=device), device)


def _rgb(image: Any) -> np.ndarray:
    if hasattr(image, "getexif"):
        return upright_rgb(image)
    if isinstance(image, (str, Path)):
        return read_image(image)
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise UserError(
            f"an image must be uint8 RGB of shape (H, W, 3), not {array.dtype} {array.shape}: "
            "scale and choose its bands first, nothing is guessed"
        )
    return array

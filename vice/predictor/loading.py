"""Loading a predictor by the name of a checkpoint or of any embedder."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vice.model_specs import refuse_empty
from vice.models.checkpoint import Checkpoint, load_checkpoint
from vice.models.load import load_extractor, names_a_run
from vice.paths import text_from_home
from vice.predictor.predictor import Predictor
from vice.runtime.device_names import check_device


def load(
    path: str | Path,
    device: str | torch.device | None = None,
    *,
    max_pixels: int | None = None,
    precision: str = "float32",
) -> Predictor:
    """Loads a checkpoint, or any embedder that the scoring tools take, for use.

    Args:
        path: A run folder, ``vice.safetensors``, a VISSL checkpoint of a ViCE run, or what
            `vice.models.load.load_extractor` takes besides: somebody else's file with a ResNet,
            ``timm:NAME@FILE``, ``torchvision:resnet50``, ``random:...``, ``MODULE:CALLABLE`` or
            ``lab``. These have no prototypes: `Predictor.segment` needs concepts.
        device: Where to compute; None takes a GPU when there is one.
        max_pixels: As in `Predictor`.
        precision: As in `Predictor`.

    Returns:
        The predictor.

    Raises:
        UserError: Nothing there, a broken file, or no such device, or it does not compute in
            that precision.

    Example:
        >>> import numpy as np
        >>> import vice
        >>> predictor = vice.load("random:resnet18-fpn-8", device="cpu")
        >>> photo = np.zeros((48, 64, 3), np.uint8)
        >>> predictor.embed(photo).shape
        torch.Size([8, 48, 64])
    """
    refuse_empty(str(path))
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    spec = text_from_home(path) if isinstance(path, str) else os.fspath(path)
    if names_a_run(spec):
        checkpoint = load_checkpoint(Path(spec), device=device)
        return Predictor(checkpoint, device, None, max_pixels, precision)
    found = Checkpoint(load_extractor(spec, device=str(device)))
    return Predictor(found, device, spec, max_pixels, precision)

"""Models of ViCE for `torch.hub`, which looks for this file at the top of a repository.

``torch.hub.load("owner/vice", "vice", "outputs/photos")`` gives what `vice.load` gives of it, and
``torch.hub.load("owner/vice", "pretrained", "owner/name")`` a model of Hugging Face's hub.
"""

from __future__ import annotations

from typing import Any

dependencies = ["torch", "torchvision", "numpy", "PIL", "cv2", "safetensors"]


def vice(model: str, device: str | None = None) -> Any:
    """A `vice.Predictor`.

    Args:
        model: What `vice.load` takes: a run folder, ``vice.safetensors``, ``timm:NAME@FILE``, ...
        device: Where to compute; None takes a GPU if there is one.
    """
    from vice import load

    return load(model, device=device)


def pretrained(name: str, device: str | None = None, **more: Any) -> Any:
    """A `vice.Predictor` of a model on Hugging Face's hub; as its ``from_pretrained``."""
    from vice import Predictor

    return Predictor.from_pretrained(name, device=device, **more)

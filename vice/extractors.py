"""One way to name anything that turns an image into a dense embedding."""

from __future__ import annotations

from torch import nn

from vice.floors import LabEmbedder


def load_extractor(spec: str, *, seed: int = 0, device: str = "cpu") -> nn.Module:
    """Loads a dense embedder by name, frozen and in evaluation mode.

    Args:
        spec: ``"lab"`` for the colour floor, or anything `vice.checkpoint.load_embedder` takes: a
            run folder, a checkpoint file, ``"random:<path>"`` or ``"random:resnet18-fpn-128"``.
        seed: Seed of random weights.
        device: Where to put it.

    Returns:
        A module from (B, 3, H, W) normalised images to (B, D, h, w), with ``dim`` and ``stride``.

    Raises:
        UserError: No such checkpoint or name.
    """
    if spec == "lab":
        return LabEmbedder().eval().to(device)
    from vice.checkpoint import load_embedder

    return load_embedder(spec, seed=seed, device=device)


def is_spherical(extractor: nn.Module) -> bool:
    """Whether only the direction of an embedding counts, so that clusters are spherical.

    True for every learnt embedding (ViCE normalises each pixel); a module says otherwise with an
    attribute ``spherical = False``.
    """
    return bool(getattr(extractor, "spherical", True))

"""Shape of what an embedder must return, and a check for NaN and infinity that names the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vice.errors import UserError, exits_are_errors

#: Batches whose check may wait on a device other than the CPU, so that none of them waits for it.
WAITING = 32


def check_form(embedding: object, images: Tensor, dim: object) -> Tensor:
    """Sees to it that an embedder has returned a dense embedding of its images.

    Args:
        embedding: What it returned.
        images: What it was given, (B, 3, H, W).
        dim: Width D that it promised.

    Returns:
        The embedding, floating point (B, D, h, w) on the device of the images.

    Raises:
        UserError: It is anything else.
    """
    if not isinstance(embedding, Tensor):
        raise UserError(
            f"the embedder returned {type(embedding).__name__}, not a tensor (B, D, h, w)"
        )
    if embedding.ndim != 4 or 0 in embedding.shape or embedding.shape[0] != len(images):
        raise UserError(
            f"the embedder returned a tensor of shape {tuple(embedding.shape)} for images of shape "
            f"{tuple(images.shape)}, not (B, D, h, w)"
        )
    if embedding.shape[1] != dim:
        raise UserError(
            f"the embedder returned {embedding.shape[1]} channels, but its width dim is {dim}: all "
            "images need the same"
        )
    if not embedding.is_floating_point():
        raise UserError(f"the embedder returned {embedding.dtype}, not floating-point numbers")
    if embedding.device != images.device:
        raise UserError(
            f"the embedder returned a tensor on {embedding.device} for images on {images.device}"
        )
    return embedding


def set_width(embedder: nn.Module) -> nn.Module:
    """Gives an embedder its width ``dim``, by a look at what it returns, if it has none.

    Args:
        embedder: (B, 3, H, W) to (B, D, h, w).

    Returns:
        The same, in evaluation mode if it had to be tried.

    Raises:
        UserError: What it returns is no dense embedding, or its ``dim`` is no width.
    """
    if not hasattr(embedder, "dim"):
        images = torch.zeros(1, 3, 224, 224)
        with torch.no_grad():
            output = embedder.eval()(images)
        width = output.shape[1] if isinstance(output, Tensor) and output.ndim == 4 else None
        embedder.dim = check_form(output, images, width).shape[1]
    if type(embedder.dim) is not int or embedder.dim < 1:
        raise UserError(f"its width dim is {embedder.dim!r}: the number of channels D it returns")
    return embedder


class CheckedEmbedder(nn.Module):
    """An embedder whose every output goes through `check_form`.

    Args:
        embedder: (B, 3, H, W) to (B, D, h, w), with ``dim``.
    """

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images, see `check_form`."""
        with exits_are_errors(f"the embedder ({type(self.embedder).__name__})"):
            embedding = self.embedder(images)
        return check_form(embedding, images, self.embedder.dim)


def finite_entries(values: Tensor) -> Tensor:
    """Whether all numbers of each entry of a batch are finite.

    Args:
        values: Floating point (B, ...), not empty.

    Returns:
        bool (B,) on its device; nothing waits for that device.
    """
    flat = values.detach().reshape(len(values), -1)
    # NaN propagation: it wins in both. Two reductions take a tenth of isfinite on each number.
    return torch.isfinite(flat.amax(1)) & torch.isfinite(flat.amin(1))


class FiniteWatch:
    """Refuses numbers that are not finite and names the image that they come from.

    On the CPU that is done at once. Elsewhere the verdicts of up to ``WAITING`` batches are looked
    at together, so that the device is not waited for after each.

    Attributes:
        names: Images of the batch that is being computed; empty where nobody has said.
    """

    def __init__(self) -> None:
        self.names: Sequence[str] = ()
        self._waiting: list[tuple[Tensor, Sequence[str], str]] = []

    def see(self, values: Tensor, problem: str) -> None:
        """Looks at what was computed for a batch.

        Args:
            values: Floating point (B, ...), an entry an image.
            problem: What it is and what to do if it is not finite; follows the image's name.

        Raises:
            UserError: An entry of this or an earlier batch is not finite.
        """
        self._waiting.append((finite_entries(values), self.names, problem))
        if values.device.type == "cpu" or len(self._waiting) >= WAITING:
            self.look()

    def look(self) -> None:
        """Looks at everything that waits.

        Raises:
            UserError: An entry is not finite.
        """
        waiting, self._waiting = self._waiting, []
        for finite, names, problem in waiting:
            for index in (~finite).nonzero().flatten().tolist()[:1]:
                raise UserError(f"{named(names, index)}: {problem}")


def named(names: Sequence[str], index: int) -> str:
    """The image at a place of a batch; where its name is not known, the place."""
    return str(names[index]) if index < len(names) else f"image {index} of the batch"


def refuse_nonfinite(values: Tensor, name: str | Path) -> None:
    """Refuses the embedding of one image if it is not finite.

    Args:
        values: Floating point, any shape but empty.
        name: The image.

    Raises:
        UserError: It is not.
    """
    if not bool(finite_entries(values[None])[0]):
        raise UserError(f"{name}: {NONFINITE}")


NONFINITE = (
    "its embedding is not finite (NaN or infinity): the model has diverged, its checkpoint is "
    "broken, or its numbers are too large for their type"
)

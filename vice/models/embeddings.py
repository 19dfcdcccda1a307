"""Shape of what an embedder must return, and a check of its numbers that names the image."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vice.errors import UserError, exits_are_errors

logger = logging.getLogger(__name__)
#: Batches whose check may wait on a device other than the CPU, so that none of them waits for it.
WAITING = 32
#: Beyond it squares of an embedding's numbers, or their sum over its channels, overflow in float32.
LARGEST = 1e18
#: An embedding that stays below it has vectors that are too short to be told from none
#: (`torch.nn.functional.normalize` has 1e-12).
SMALLEST = 1e-9


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
        embedder: (B, 3, H, W) to (B, D, h, w), in evaluation mode.

    Returns:
        The same.

    Raises:
        UserError: What it returns is no dense embedding, or its ``dim`` is no width.
    """
    if not hasattr(embedder, "dim"):
        images = torch.zeros(1, 3, 224, 224)
        with torch.no_grad():
            output = embedder(images)
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


def largest_entries(values: Tensor) -> Tensor:
    """The greatest magnitude in each entry of a batch.

    Args:
        values: Floating point (B, ...), not empty.

    Returns:
        (B,) on its device, NaN or infinite where some number is; nothing waits for that device.
    """
    flat = values.detach().reshape(len(values), -1)
    # NaN propagation: it wins in both. Two reductions take a tenth of isfinite on each number.
    return torch.maximum(flat.amax(1), -flat.amin(1))


class FiniteWatch:
    """Refuses numbers that cannot be computed with and names the image that they come from.

    On the CPU that is done at once. Elsewhere the verdicts of up to ``WAITING`` batches are looked
    at together, so that the device is not waited for after each.

    Attributes:
        names: Images of the batch that is being computed; empty where nobody has said.
    """

    def __init__(self) -> None:
        self.names: Sequence[str] = ()
        self._waiting: list[tuple[Tensor, Sequence[str], str, bool]] = []
        self._said = False

    def see(self, values: Tensor, problem: str, *, embedding: bool = False) -> None:
        """Looks at what was computed for a batch.

        Args:
            values: Floating point (B, ...), an entry an image.
            problem: What it is and what to do if it is not finite; follows the image's name.
            embedding: Whether its vectors are measured: what is too large for that is refused,
                and of the first that is next to nothing it is said.

        Raises:
            UserError: An entry of this or an earlier batch is not finite, or too large.
        """
        self._waiting.append((largest_entries(values), self.names, problem, embedding))
        if values.device.type == "cpu" or len(self._waiting) >= WAITING:
            self.look()

    def look(self) -> None:
        """Looks at everything that waits.

        Raises:
            UserError: An entry is not finite, or too large.
        """
        waiting, self._waiting = self._waiting, []
        for largest, names, problem, embedding in waiting:
            for index, number in enumerate(largest.tolist()):
                if not math.isfinite(number):
                    raise UserError(f"{named(names, index)}: {problem}")
                if embedding:
                    _refuse_large(number, named(names, index))
                    self._say_small(number, named(names, index))

    def see_one(self, values: Tensor, name: str | Path) -> None:
        """Looks at once at the embedding of one image, which is measured.

        Args:
            values: Floating point, any shape but empty.
            name: The image.

        Raises:
            UserError: It is not finite, or too large.
        """
        self.names = [str(name)]
        self.see(values[None], NONFINITE, embedding=True)
        self.look()

    def _say_small(self, number: float, name: str) -> None:
        if number < SMALLEST and not self._said:
            self._said = True
            logger.warning(
                "%s: its embedding is next to nothing (largest number %.2g), so that directions of "
                "vectors say nothing or little; others like it are not named",
                name,
                number,
            )


def named(names: Sequence[str], index: int) -> str:
    """The image at a place of a batch; where its name is not known, the place."""
    return str(names[index]) if index < len(names) else f"image {index} of the batch"


def _refuse_large(number: float, name: str) -> None:
    if number > LARGEST:
        raise UserError(
            f"{name}: its embedding has numbers up to {number:.2g}, too large to be squared in "
            "float32; scale the embedding down"
        )


NONFINITE = (
    "its embedding is not finite (NaN or infinity): the model has diverged, its checkpoint is "
    "broken, or its numbers are too large for their type"
)

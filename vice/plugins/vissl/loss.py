"""What VISSL calls as its loss: a method's, on the batch that the step has finished."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from classy_vision.losses import ClassyLoss
from torch import Tensor, nn

from vice.errors import UserError
from vice.methods import Batch


class MethodLoss(ClassyLoss):
    """A method's loss on the outputs of its head.

    Args:
        criterion: What `vice.methods.Method.loss` returns.

    Attributes:
        batch: What the step works on. VISSL would hand on one tensor, and a copy of it.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion
        self.batch = Batch([])
        self._last: Tensor | None = None

    @property
    def health(self) -> dict[str, Any]:
        """Of the last step; ``loss`` is the scalar itself where the criterion does not say it."""
        # Statically: what goes wrong as it is read is no missing one.
        there = inspect.getattr_static(self.criterion, "health", None) is not None
        found = self.criterion.health if there else {}
        if not isinstance(found, Mapping):
            raise UserError(
                f"{self._name}.health is {type(found).__name__}, but must be a mapping of names to "
                "numbers"
            )
        health = {str(name): self._number(name, value) for name, value in found.items()}
        if "loss" not in health and self._last is not None:
            health["loss"] = float(self._last)
        return health

    def forward(self, output: Any, index: Tensor) -> Tensor:
        """Loss of the head's outputs; ``index``, the label that VISSL wants, is not needed.

        Raises:
            UserError: The criterion's value is nothing that can be trained with.
        """
        del index
        outputs = output if isinstance(output, list) else [output]
        loss: Tensor = self.criterion(*outputs, *self.batch.targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r}"
            raise UserError(f"{self._name} returned {what}, but must return a scalar tensor")
        if loss.is_complex():
            raise UserError(f"{self._name} returned a complex number, but must return a real one")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise UserError(
                f"{self._name} returned a scalar that depends on nothing that is trained: compute "
                "it from what the head gives, without detach() or no_grad()"
            )
        self._last = loss.detach()
        return loss

    def _number(self, name: Any, value: Any) -> float:
        """A plain number, also out of a tensor or an array of one element."""
        with suppress(AttributeError, RuntimeError, ValueError):
            value = value.item()
        if not isinstance(value, int | float):
            said = " ".join(reprlib.repr(value).split())
            raise UserError(f"{self._name}.health[{name!r}] is {said}, but must be a number")
        return value

    @property
    def _name(self) -> str:
        return type(self.criterion).__qualname__

"""What VISSL calls as its loss: a method's, on the batch that the step has finished."""

from __future__ import annotations

from typing import Any

from classy_vision.losses import ClassyLoss
from torch import Tensor, nn

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

    @property
    def health(self) -> dict[str, float]:
        """Of the last step."""
        health: dict[str, float] = self.criterion.health
        return health

    def forward(self, output: Any, index: Tensor) -> Tensor:
        """Loss of the head's outputs; ``index``, the label that VISSL wants, is not needed."""
        del index
        outputs = output if isinstance(output, list) else [output]
        loss: Tensor = self.criterion(*outputs, *self.batch.targets)
        return loss

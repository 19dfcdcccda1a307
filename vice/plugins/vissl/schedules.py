"""VISSL schedule ``vice_poly``: a polynomial of the epoch, also on resuming inside one."""

from __future__ import annotations

import math
from typing import Any

from classy_vision.optim.param_scheduler import (
    ClassyParamScheduler,
    UpdateInterval,
    register_param_scheduler,
)

NAME = "vice_poly"


@register_param_scheduler(NAME)
class EpochPolynomial(ClassyParamScheduler):
    """``base * (1 - epoch / epochs) ^ power`` (DeepLab's schedule, by epoch).

    VISSL's own by-epoch schedules take the share of the steps that are done for the epoch's where a
    training is resumed inside an epoch. This one is asked at every step, and knows the epoch.

    Args:
        base: Of the first epoch.
        power: As said.
        epochs: Of the training.
    """

    def __init__(self, base: float, power: float, epochs: int) -> None:
        super().__init__(UpdateInterval.STEP)
        self.base, self.power, self.epochs = base, power, epochs

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EpochPolynomial:
        """Built from a schedule of ``config.OPTIMIZER.param_schedulers``."""
        return cls(float(config["base"]), float(config["power"]), int(config["epochs"]))

    def __call__(self, where: float) -> float:
        """The rate after a share of the steps."""
        # Rounding: the share at an epoch's start may be a digit short of it.
        epoch = math.floor(where * self.epochs + 1e-6)
        return self.base * (1 - epoch / self.epochs) ** self.power

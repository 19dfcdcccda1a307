"""Execution of a network: precision, memory layout, compiled or not. No part of what it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vice.errors import UserError
from vice.options import FLAG, NULL, either, one_of, option

#: Left to what is faster where it is computed (`vice.models.execution_probe`).
AUTO = "auto"
PRECISIONS = (None, "bfloat16", AUTO)


@dataclass(frozen=True)
class Execution:
    """How a network is computed.

    bfloat16 runs under autocast, on CPU and GPU, and needs no gradient scaler, since its range is
    that of float32; without it the precision is left to the caller. `torch.compile` takes minutes
    at the first batch. What is ``"auto"`` has to be decided before anything is computed.

    Raises:
        UserError: An unknown precision.
    """

    precision: str | None = option(
        None,
        either(one_of("bfloat16", AUTO), NULL),
        "precision of the network; bfloat16 needs no AMP and works on CPUs too; auto: that in "
        "which a step is faster, tried once when the run begins",
    )
    channels_last: bool | str = option(
        False,
        either(FLAG, one_of(AUTO)),
        "whether images and weights lie in memory with their channels innermost, as tensor cores "
        "and oneDNN read them; auto: if a step is faster so, tried once when the run begins",
    )
    compiled: bool = option(False, FLAG, "whether torch.compile compiles the network")

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} must be null, bfloat16 or auto")

    @property
    def undecided(self) -> bool:
        """Whether something is left to what is faster."""
        return AUTO in (self.precision, self.channels_last)

    def choices(self) -> list[Execution]:
        """All that it can come to, the plainest first; itself where nothing is undecided."""
        precisions = (None, "bfloat16") if self.precision == AUTO else (self.precision,)
        layouts = (False, True) if self.channels_last == AUTO else (self.channels_last,)
        return [
            replace(self, precision=precision, channels_last=layout)
            for precision in precisions
            for layout in layouts
        ]

    def __str__(self) -> str:
        words = [self.precision or "float32", *["channels_last"][: self.channels_last is True]]
        return " + ".join([*words, *["compiled"][: self.compiled]])

    def prepare(self, network: nn.Module) -> nn.Module:
        """Sets the layout of the weights and how the network is called, in place.

        Names and values of the parameters stay as they are, so that checkpoints do too.

        Args:
            network: Any network of images.

        Returns:
            The same network.
        """
        self.prepare_layout(network)
        if self.compiled:
            network.compile()
        return network

    def prepare_layout(self, network: nn.Module) -> None:
        """Sets the layout of the weights alone.

        Raises:
            ValueError: Something is undecided.
        """
        if self.undecided:
            raise ValueError(f"{self.precision!r}, {self.channels_last!r}: still to be decided")
        if self.channels_last:
            network.to(memory_format=torch.channels_last)

    def run(self, network: nn.Module, images: Tensor, **options: Any) -> Tensor:
        """Calls a prepared network.

        Args:
            network: What `prepare` returned.
            images: (B, 3, H, W) float.
            **options: Of the network's call.

        Returns:
            What the network returns; bfloat16 if that is the precision.
        """
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        images = images.contiguous(memory_format=layout)
        if self.precision is None:
            output: Tensor = network(images, **options)
            return output
        with torch.autocast(images.device.type, torch.bfloat16):
            output = network(images, **options)
        return output

"""Execution of a network: precision, memory layout, compiled or not. No part of what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vice.errors import UserError
from vice.options import FLAG, NULL, either, one_of, option

PRECISIONS = (None, "bfloat16")


@dataclass(frozen=True)
class Execution:
    """How a network is computed.

    bfloat16 runs under autocast, on CPU and GPU, and needs no gradient scaler, since its range is
    that of float32; without it the precision is left to the caller. `torch.compile` takes minutes
    at the first batch.

    Raises:
        UserError: An unknown precision.
    """

    precision: str | None = option(
        None,
        either(one_of("bfloat16"), NULL),
        "precision of the network; bfloat16 needs no AMP and works on CPUs too",
    )
    channels_last: bool = option(
        False,
        FLAG,
        "whether images and weights lie in memory with their channels innermost, as tensor cores "
        "and oneDNN read them",
    )
    compiled: bool = option(False, FLAG, "whether torch.compile compiles the network")

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} must be null or bfloat16")

    def prepare(self, network: nn.Module) -> nn.Module:
        """Sets the layout of the weights and how the network is called, in place.

        Names and values of the parameters stay as they are, so that checkpoints do too.

        Args:
            network: Any network of images.

        Returns:
            The same network.
        """
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compiled:
            network.compile()
        return network

    def run(self, network: nn.Module, images: Tensor, **options: Any) -> Tensor:
        """Calls a prepared network.

        Args:
            network: What `prepare` returned.
            images: (B, 3, H, W) float.
            **options: Of the network's call.

        Returns:
            What the network returns; bfloat16 if that is the precision.
        """
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.precision is None:
            output: Tensor = network(images, **options)
            return output
        with torch.autocast(images.device.type, torch.bfloat16):
            output = network(images, **options)
        return output

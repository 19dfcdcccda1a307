"""What travels between a method and what runs it: batches, and images that give nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


class Unusable(Exception):
    """This image gives no sample; another one, drawn at random, takes its place."""


@dataclass
class Batch:
    """What one step works on, on the device.

    Attributes:
        inputs: Each (B, 3, h, w) float has a forward pass, and so batch statistics, of its own;
            several are of one size, and the head is given their embeddings one after the other.
        targets: What the loss is given after the outputs of the head.
    """

    inputs: list[Tensor]
    targets: tuple[Any, ...] = ()

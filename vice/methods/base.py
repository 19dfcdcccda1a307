"""The seam between ways of training an embedder and the framework that runs them.

A method says what a sample is, what is trained along with the embedder, what the loss compares, and
what happens between steps and epochs. It knows no framework; a plugin calls it.
``docs/add_a_method.md`` works one through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from vice.methods.batch import Batch
from vice.methods.context import Context, Source
from vice.methods.signs import Measure, Sign
from vice.models import Concepts, Embedder
from vice.models.key_encoder import Run


@dataclass(frozen=True)
class NoOptions:
    """Those of a method that has none of its own."""


class Method(ABC):
    """One way of training an embedder.

    Args:
        options: The method's own, an ``Options``.
        settings: The groups of options that it shares with others (``sections``), by name.
    """

    #: Frozen dataclass of `vice.options.option` fields: ``config.VICE.METHOD.*``.
    Options: ClassVar[type] = NoOptions
    #: Further groups of ``config.VICE`` that it reads, and the options in each.
    sections: ClassVar[Mapping[str, type]] = {}
    measures: ClassVar[Sequence[Measure]] = ()
    #: Further dense outputs of the embedder, by name with their channels; exported with it. Without
    #: channels, 0, an output is the last map of the backbone.
    outputs: ClassVar[Mapping[str, int]] = {}
    #: Whether it needs a backbone that stays as it is.
    frozen: ClassVar[bool] = False
    #: Whether its head takes maps of the precision that the network is computed in, such as
    #: bfloat16; else they are handed over in float32.
    low_precision: ClassVar[bool] = False

    def __init__(self, options: Any, settings: Mapping[str, Any]) -> None:
        self.options = options
        self.settings = settings

    @abstractmethod
    def sample(self, source: Source, index: int, rng: np.random.Generator) -> Any:
        """In a worker: what one image gives. ``rng`` depends on seed, epoch and index alone.

        Raises:
            Unusable: It gives nothing.
        """

    @abstractmethod
    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """In a worker: samples as few large tensors."""

    @abstractmethod
    def finish(self, collated: dict[str, Any], device: torch.device) -> Batch:
        """On the device, before the forward pass: what is left to do for a batch."""

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """Trained along: (B, ``dim``, h, w) to a list of what the loss is given first.

        The `outputs` follow the embedding along the channels.
        """

    def trained_later(self) -> Mapping[str, int]:
        """Parameters of the head that stay as they are for so many first steps."""
        return {}

    @abstractmethod
    def loss(self) -> nn.Module:
        """``loss(*outputs, *targets)``, a scalar; the mean of ranks is the loss of the batch.

        Its ``health`` holds plain numbers of the last call: ``loss``, which is read from the scalar
        where it is missing, and all that the method `measures`. What it keeps between steps are
        buffers.
        """

    def bind(self, loss: nn.Module, embedder: Embedder, run: Run) -> None:  # noqa: B027
        """Once, when both are built and before a state is read: what a loss keeps of the embedder.

        Args:
            loss: What `loss` returned.
            embedder: The one that is trained, itself and not what wraps it for several ranks.
            run: How the trained network is called: with a network and images.
        """

    def check_batch(self, images: int) -> None:  # noqa: B027
        """Whether it can be trained with so many images a step, of all ranks.

        Raises:
            OptionError: It cannot.
        """

    def provenance(self) -> Mapping[str, Any]:
        """What the export says of how it was trained, beside what it says of every method."""
        return {}

    def concepts(self, head: nn.Module) -> Concepts | None:
        """What is exported, drawn and segmented with."""
        return None

    def before_workers(self, context: Context) -> None:  # noqa: B027
        """At each start, on resuming too, before a worker calls `sample`: makes what that reads.

        It is left in `Context.folder`, and is the same whenever it is made.
        """

    def before_training(self, context: Context) -> None:  # noqa: B027
        """Before the first step; not on resuming."""

    def before_epoch(self, context: Context) -> None:  # noqa: B027
        """Before each epoch; not on resuming inside one. What it makes is part of the state."""

    def resume_epoch(self, context: Context) -> None:  # noqa: B027
        """In its place on resuming inside an epoch, after `load_state_dict`: reads `files` back."""

    def before_step(self, context: Context) -> None:  # noqa: B027
        """After the backward pass: parameters whose ``grad`` is made None are left as they are."""

    def after_step(self, context: Context) -> None:  # noqa: B027
        """After each step that was taken."""

    def before_export(self, context: Context) -> None:  # noqa: B027
        """After the last epoch, on every rank, before its export."""

    def before_saving(self, loss: nn.Module) -> None:  # noqa: B027
        """On every rank, before the first one's state is saved: gathers what differs by rank."""

    def state_dict(self) -> dict[str, Any]:
        """What head and loss do not hold: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Takes what `state_dict` gave, on resuming."""

    def files(self) -> Sequence[str]:
        """Files of `Context.folder` without which the state inside an epoch is not whole."""
        return ()

    def signs(self) -> Sequence[Sign]:
        """What tells that a training with these options is sick."""
        return ()

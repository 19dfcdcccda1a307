"""The hook that every hook of ViCE starts from, and where hooks find the parts of a training."""

from __future__ import annotations

from typing import Any

from classy_vision.hooks import ClassyHook
from torch import nn
from vissl.hooks import SSLTensorboardHook

from vice.models import Concepts, Embedder


class SilentHook(ClassyHook):
    """Does nothing anywhere."""

    on_start = ClassyHook._noop
    on_phase_start = ClassyHook._noop
    on_forward = ClassyHook._noop
    on_loss_and_meter = ClassyHook._noop
    on_backward = ClassyHook._noop
    on_update = ClassyHook._noop
    on_step = ClassyHook._noop
    on_phase_end = ClassyHook._noop
    on_end = ClassyHook._noop


def embedder_of(task: Any) -> Embedder:
    """The embedder that is trained, itself and not what wraps it for several ranks."""
    embedder: Embedder = task.base_model.trunk.embedder
    return embedder


def head_of(task: Any) -> nn.Module:
    """What the method trains along with the embedder."""
    head: nn.Module = task.base_model.heads[0]
    return head


def concepts_of(task: Any) -> Concepts | None:
    """What the method would export now, if it has concepts."""
    concepts: Concepts | None = task.method.concepts(head_of(task))
    return concepts


def writers_of(task: Any) -> list[Any]:
    """TensorBoard's writers and other trackers; none where the configuration wants none."""
    writers = [hook.tb_writer for hook in task.hooks if isinstance(hook, SSLTensorboardHook)]
    return [*writers, *(writer for hook in task.hooks for writer in getattr(hook, "writers", ()))]

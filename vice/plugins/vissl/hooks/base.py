"""The hook that every hook of ViCE starts from, and where hooks find the parts of a training."""

from __future__ import annotations

from typing import Any

from classy_vision.hooks import ClassyHook
from torch import nn
from vissl.hooks import SSLTensorboardHook

from vice.errors import UserError
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
    """What the method would export now, if it has concepts.

    Raises:
        UserError: They are none, or are of another width than the embedding.
    """
    concepts: Any = task.method.concepts(head_of(task))
    dim = int(embedder_of(task).config["dim"])
    if concepts is None or (isinstance(concepts, Concepts) and concepts.vectors.shape[1] == dim):
        return concepts
    what = (
        f"of width {concepts.vectors.shape[1]}"
        if isinstance(concepts, Concepts)
        else f"a {type(concepts).__name__}"
    )
    raise UserError(
        f"{type(task.method).__qualname__}.concepts() returned {what}, but must return "
        f"vice.models.Concepts of the embedding's width, {dim}, or None"
    )


def writers_of(task: Any) -> list[Any]:
    """TensorBoard's writers and other trackers; none where the configuration wants none."""
    writers = [hook.tb_writer for hook in task.hooks if isinstance(hook, SSLTensorboardHook)]
    return [*writers, *(writer for hook in task.hooks for writer in getattr(hook, "writers", ()))]

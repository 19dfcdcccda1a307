"""Sees to it that a run of MMSegmentation scores numbers, and keeps what its training has seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from vice.models.embeddings import FiniteWatch

#: Steps whose mean loss says how a training has ended.
LAST_STEPS = 50


@dataclass(frozen=True)
class Training:
    """What is known of a training that has ended.

    Attributes:
        seen: bool (256,) on the CPU, whether any rank has trained on a pixel of this label.
        loss: Mean over the last ``LAST_STEPS`` steps.
    """

    seen: Tensor
    loss: float


@HOOKS.register_module()
class WatchHook(Hook):
    """Tells backbone and head which images they work on, and has the last of them looked at.

    All parts of the model then share one `vice.models.embeddings.FiniteWatch`.

    Attributes:
        training: After a training: what it has seen. None where nothing was trained.
    """

    def __init__(self) -> None:
        self.watch = FiniteWatch()
        self.training: Training | None = None
        self._losses: deque[Tensor] = deque(maxlen=LAST_STEPS)

    def before_run(self, runner: Runner) -> None:
        """Gives all parts of the model one watch."""
        for module in runner.model.modules():
            if isinstance(getattr(module, "watch", None), FiniteWatch):
                module.watch = self.watch

    def _before_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = "train"
    ) -> None:
        self.watch.names = image_names(data_batch["data_samples"]) if data_batch else ()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Looks at the loss of a step."""
        loss = outputs["loss"].detach()
        self._losses.append(loss)
        self.watch.names = ("the step's images together",)
        self.watch.see(loss[None], _LOSS)

    def after_train(self, runner: Runner) -> None:
        """Looks at the last steps, and keeps what training has seen."""
        self.watch.look()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        seen_classes = getattr(getattr(model, "decode_head", None), "seen", None)
        if isinstance(seen_classes, Tensor) and self._losses:
            seen = seen_classes.int()
            all_reduce(seen, "max")
            loss = torch.stack(list(self._losses)).mean()
            all_reduce(loss, "mean")
            self.training = Training(seen.bool().cpu(), loss.item())

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Looks at the last images, before their scores are told."""
        self.watch.look()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Looks at the last images, before their scores are told."""
        self.watch.look()


def image_names(samples: Sequence[Any]) -> tuple[str, ...]:
    """File of each sample of a batch."""
    return tuple(str(getattr(sample, "img_path", "an image")) for sample in samples)


def training_of(hooks: Sequence[Hook]) -> Training | None:
    """What the `WatchHook` among some hooks knows of the training."""
    return next((hook.training for hook in hooks if isinstance(hook, WatchHook)), None)


_LOSS = (
    "the loss is not finite (NaN or infinity): what is fitted has diverged, lower linear_lr "
    "(or the embedding has too large numbers)"
)

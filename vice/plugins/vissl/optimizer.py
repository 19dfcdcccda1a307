"""VISSL optimizer ``vice_lars``: timm's LARS, in place of VISSL's LARC, which needs apex.

And what VISSL does not ask PyTorch's own optimizers for.
"""

from __future__ import annotations

from typing import Any

import torch
from classy_vision.optim import ClassyOptimizer, register_optimizer


def fuse_on_cpu(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Lets a step of Adam or AdamW on a CPU go over the weights once, not once for each operation.

    A run that goes on keeps what its state was saved with, so that it ends with the same bits.
    PyTorch's fused SGD is not for weights that are without a gradient at first.

    Args:
        optimizer: Others are left as they are.
        device: Where the weights are; PyTorch's own choice is as fast on a GPU.
    """
    if device.type == "cpu" and isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        for group in optimizer.param_groups:
            group["fused"] = True
        optimizer.register_step_pre_hook(_align)


def _align(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Memory order: a fused step reads weight, gradient and state side by side, as they lie there.

    A state may have been saved in another order (channels_last).
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            if weight.grad.stride() != weight.stride():
                weight.grad = _like(weight, weight.grad)
            state = optimizer.state[weight]
            for name, value in state.items():
                if value.shape == weight.shape and value.stride() != weight.stride():
                    state[name] = _like(weight, value)


def _like(weight: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


@register_optimizer("vice_lars")
class ViceLARS(ClassyOptimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017), as in SwAV's LARC without clipping.

    Args:
        momentum: Momentum.
        nesterov: Nesterov's variant.
        trust_coefficient: Ratio of the step to the weights' norm.
        eps: Added to the norm of the gradient.
        clip: Never step further than the plain learning rate (LARC's clipping).
    """

    def __init__(
        self,
        momentum: float = 0.9,
        nesterov: bool = False,
        trust_coefficient: float = 0.001,
        eps: float = 1e-8,
        clip: bool = False,
    ) -> None:
        super().__init__()
        self.options = {
            "momentum": momentum,
            "nesterov": nesterov,
            "trust_coeff": trust_coefficient,
            "eps": eps,
            "trust_clip": clip,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ViceLARS:
        """Built from ``config.OPTIMIZER``; the LARS numbers are under ``larc_config``."""
        larc = config.get("larc_config", {})
        return cls(
            momentum=config.get("momentum", 0.9),
            nesterov=config.get("nesterov", False),
            trust_coefficient=larc.get("trust_coefficient", 0.001),
            eps=larc.get("eps", 1e-8),
            clip=larc.get("clip", False),
        )

    def prepare(self, param_groups: list[dict[str, Any]]) -> None:
        """Builds the optimizer; learning rate and weight decay come with the groups."""
        from timm.optim import Lars

        self.optimizer = Lars(param_groups, **self.options)

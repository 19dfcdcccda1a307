"""VISSL optimizer ``vice_lars``: timm's LARS, in place of VISSL's LARC, which needs apex."""

from __future__ import annotations

from typing import Any

from classy_vision.optim import ClassyOptimizer, register_optimizer


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

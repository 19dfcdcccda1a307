"""Modules without first weights, for those that are given others as soon as they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Draws that fill a tensor; those of `torch.nn.init` that come here before the draw inside them.
_DRAWS = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.uniform_,
}


class Uninitialized(TorchFunctionMode):
    """Context in which weights are left as memory was found, instead of drawn at random.

    Drawing them takes longer than reading them from a file, and takes random numbers from the
    global generator. Whoever makes a module so must load every one of its parameters, as
    `torch.nn.Module.load_state_dict` makes sure of.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Gives back the tensor that a draw would fill; does anything else."""
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)

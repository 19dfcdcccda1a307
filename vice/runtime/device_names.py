"""Device names, and whether the devices are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vice.errors import UserError

if TYPE_CHECKING:
    import torch

#: Help of every option that names one.
NAMES = "cpu, cuda, cuda:1, mps ..."
_REASONS = {
    "mps": "this machine has no Apple GPU, or this PyTorch was built without it",
    "meta": "it holds no numbers",
}


def check_device(device: str | torch.device, option: str = "device") -> torch.device:
    """A device that can be computed on.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` and so on.
        option: What the user calls it, for the message.

    Raises:
        UserError: No device of PyTorch's, or none of this machine.
    """
    # Lazy import: command lines load this for their help texts, which need no PyTorch.
    import torch

    try:
        checked = torch.device(device)
        torch.zeros(1, device=checked).cpu()
    # Catch-all: a wrong name, driver or number raises almost any exception.
    except Exception as error:
        reason = _REASONS.get(str(device).partition(":")[0]) or next(
            iter(str(error).splitlines()), type(error).__name__
        )
        raise UserError(
            f"{option} {device} cannot be used: {reason.rstrip('.')}; take another, such as cpu"
        ) from error
    return checked

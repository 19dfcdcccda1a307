"""Device names, and whether the devices are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vice.errors import UserError
from vice.nearest import close_names

if TYPE_CHECKING:
    import torch

#: Help of every option that names one.
NAMES = "cpu, cuda, cuda:1, mps ..."
_REASONS = {
    "mps": "this machine has no Apple GPU, or this PyTorch was built without it",
    "meta": "it holds no numbers",
}


#: What people call a device that PyTorch has under another name, and those that are mistyped.
_CALLED = {"gpu": "cuda", "nvidia": "cuda"}
_COMMON = ("cpu", "cuda", "mps", "xpu")


def check_device_name(device: str, option: str = "device") -> None:
    """Refuses what is no device's name, without PyTorch; whether it is there `check_device` knows.

    Args:
        device: As in `check_device`.
        option: As in `check_device`.

    Raises:
        UserError: It is none, or one that is mistyped.
    """
    kind, colon, number = device.partition(":")
    near = [_CALLED[kind]] if kind in _CALLED else close_names(kind, _COMMON, alike=0.75)
    wrong = kind not in _COMMON and near
    if wrong or not kind.isidentifier() or (colon and not number.isdecimal()):
        meant = f"did you mean {near[0]}?" if wrong else f"it is one of {NAMES}"
        raise UserError(f"{option} {device} cannot be used: it is no device; {meant}")


def check_device(device: str | torch.device, option: str = "device") -> torch.device:
    """A device that can be computed on.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` and so on.
        option: What the user calls it, for the message.

    Raises:
        UserError: No device of PyTorch's, or none of this machine.
    """
    if isinstance(device, str):
        check_device_name(device, option)
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

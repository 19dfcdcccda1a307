"""Half precision: networks that are computed in 16 bits, where a device does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from vice.errors import UserError

#: Names of precisions to the type that a network is computed in under autocast.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Types of vectors that are returned.
RESULTS = (torch.float32, torch.float16, torch.bfloat16)


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that a network is computed in; None for float32, as it is.

    Args:
        precision: A key of ``PRECISIONS``.
        device: Where it computes.

    Raises:
        UserError: There is no such precision, or not on this device.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    half = PRECISIONS[precision]
    if half is None:
        return None
    one = torch.ones(1, 1, device=device)
    try:
        with computed_in(half, device):
            found = torch.mm(one, one).dtype
    except RuntimeError as error:
        raise UserError(f"{device} does not compute in {precision} ({error})") from error
    # Older versions of PyTorch warn, and go on in float32.
    if found != half:
        raise UserError(f"{device} does not compute in {precision}: leave it out, or take bfloat16")
    return half


def computed_in(half: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """Where the operations that 16 bits are enough for are computed in them."""
    return nullcontext() if half is None else torch.autocast(device.type, half)


def check_result(dtype: torch.dtype) -> None:
    """Refuses a type that no vectors are returned in.

    Raises:
        ValueError: It is none of ``RESULTS``.
    """
    if dtype not in RESULTS:
        raise ValueError(f"dtype must be one of {', '.join(map(str, RESULTS))}, not {dtype}")

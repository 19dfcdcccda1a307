"""TorchScript: one file with the doors as methods, for programs that have PyTorch alone."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch

from vice.errors import UserError, brief
from vice.export.doors import Doors
from vice.export.facts import KEY, as_text
from vice.export.trials import TRACED, Trial, compare, images

NAME = "model.torchscript"


def make_torchscript(doors: Doors, facts: dict[str, Any]) -> tuple[dict[str, bytes], Trial]:
    """Makes ``model.torchscript``, which has then computed what the model does.

    Args:
        doors: The model.
        facts: What JSON can hold; stands in the file's extra file ``vice``.

    Returns:
        Name to the bytes of the file; how far the file, read back, is from the model.

    Raises:
        UserError: The network cannot be exported.
    """
    given = images(doors.takes, TRACED)
    methods = {"embed": given} | ({} if doors.vectors is None else {"segment": given})
    with warnings.catch_warnings(), torch.no_grad():
        # What tracing fixes is tried at other sizes below.
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace_module(doors.eval(), methods, check_trace=False)
            buffer = io.BytesIO()
            torch.jit.save(traced, buffer, _extra_files={KEY: as_text(facts)})
            buffer.seek(0)
            read = torch.jit.load(buffer)
        # Catch-all: what a network of somebody else's does, tracing may raise anything at.
        except Exception as error:
            raise UserError(
                f"this network cannot be exported to TorchScript ({brief(error)}); take --to onnx"
            ) from error
        trial = compare(doors, read.embed, getattr(read, "segment", None), "TorchScript")
    return {NAME: buffer.getvalue()}, trial

"""Safe reading of tensor files of any origin: tensors and plain containers, no code.

VISSL's files hold objects of VISSL's own classes beside the tensors, which `torch.load` with
``weights_only`` refuses as a whole, and without it hands programs to `torch.jit.load`. So
`torch.load` is not called at all: a file is opened once, looked at, and read by
`vice.models.tensor_archive` or `vice.models.legacy_tensors`, whatever its name.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from vice.errors import UserError, brief
from vice.models.file_kinds import HEAD, is_safetensors, other_kind
from vice.models.legacy_tensors import is_tar, read_stream, read_tar
from vice.models.tensor_archive import MAGIC, IsProgram, TensorArchive
from vice.runtime.files import read_json
from vice.runtime.regular_file import open_regular
from vice.runtime.run_folder import ARCHITECTURE_NAME


def read_tensors(file: str | Path, *, strict: bool = False) -> Any:
    """Reads a PyTorch or safetensors file as data.

    Args:
        file: A file written by `torch.save` (zip archive, stream of pickles or tar) or by
            safetensors, whatever it is called.
        strict: Whether an object of a foreign class makes the file unreadable.

    Returns:
        The object tree; objects of foreign classes are `vice.models.pickled_values.Inert` records,
        parameters are tensors.

    Raises:
        UserError: The file is missing, truncated, no file of tensors, or a program.
    """
    try:
        with open_regular(file) as stream:
            return _read(stream, file, strict)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {file} does not exist") from error
    except UserError:
        raise
    except IsProgram as error:
        raise UserError(refusal(file, error)) from error
    # Catch-all: broken bytes raise almost any exception in what they are taken for.
    except Exception as error:
        raise UserError(
            f"{file} is not a whole PyTorch checkpoint ({brief(error)}); copy it again, or save "
            "the weights with torch.save(model.state_dict(), FILE)"
        ) from error


def refusal(file: str | Path, error: IsProgram) -> str:
    """What to say of a file that is a program."""
    return (
        f"{file} holds code, which is not run: {error}; save its weights alone where you trust it, "
        "with torch.save(model.state_dict(), FILE)"
    )


def _read(stream: BinaryIO, name: str | Path, strict: bool) -> Any:
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    if kind := other_kind(head):
        raise UserError(f"{name} holds no weights: {kind}")
    if head.startswith(MAGIC):
        return TensorArchive(stream).read(strict=strict)
    if is_safetensors(head, length):
        from safetensors.torch import load

        return load(stream.read())
    if is_tar(stream):
        return read_tar(stream, length, strict=strict)
    return read_stream(stream, length, strict=strict)


def read_vissl_run(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A VISSL checkpoint of a ViCE run as the card and tensors of our own format.

    Args:
        file: ``model_*.torch`` in a run folder.

    Returns:
        ``(card, tensors)`` as in ``vice.safetensors``.

    Raises:
        UserError: Not a VISSL checkpoint, or one that ViCE did not train.
    """
    content = read_tensors(file)
    try:
        model = content["classy_state_dict"]["base_model"]["model"]
        trunk, heads = _tensors(model["trunk"]), _tensors(model["heads"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} is no run or checkpoint of ViCE: it has no model state as VISSL writes it"
        ) from error
    card = _at_epoch_of(_card_beside(file), content)
    tensors = {f"embedder.{_strip(name)}": value for name, value in trunk.items()}
    for name, value in heads.items():
        for part in ("prototypes.weight", "prototypes.bias"):
            if name.endswith(part):
                tensors[part] = value
    # Zeros: room for clusters that the training has not found yet.
    if "prototypes.weight" in tensors and not tensors["prototypes.weight"].any():
        tensors = {name: value for name, value in tensors.items() if "prototypes." not in name}
    return card, tensors


def _at_epoch_of(card: dict[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """The card, which is written before the first step, with how far a state has come."""
    begun, steps = content.get("train_phase_idx"), content.get("iteration")
    reached = {"epoch": begun + 1 if isinstance(begun, int) else None, "iteration": steps}
    told = card.get("meta")
    return {**card, "meta": {**(told if isinstance(told, dict) else {}), **reached}}


def _tensors(state: Any) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _strip(name: str) -> str:
    return name.removeprefix("embedder.")


def _card_beside(file: Path) -> dict[str, Any]:
    path = file.parent / ARCHITECTURE_NAME
    remedy = "training writes it at its start: copy it from the run folder"
    if not path.is_file():
        raise UserError(f"{file} has no {ARCHITECTURE_NAME} beside it; {remedy}")
    return read_json(path, remedy)

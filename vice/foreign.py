"""The narrow door for checkpoints of other frameworks: tensors and plain containers, no code.

A ``.torch`` or ``.pth`` file is a pickle. VISSL's hold objects of VISSL's own classes beside the
tensors, which `torch.load` with ``weights_only`` refuses as a whole. Here every class that is
not needed to build a tensor becomes an inert record instead, so that a file can name any class
and none of it runs.
"""

from __future__ import annotations

import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vice.errors import UserError

#: The architecture of a run, written beside VISSL's checkpoints when training starts.
ARCHITECTURE_NAME = "architecture.json"

#: Everything a pickle may name and get. `torch._utils` rebuilds tensors from storages.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "device"): torch.device,
    ("torch", "Size"): torch.Size,
}


class _Inert(dict):  # type: ignore[type-arg]
    """Stands in for an object of a class that is not allowed; keeps its items and state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert()

    def append(self, item: Any) -> None:
        """Pickles of list-like classes call this; the items are dropped."""

    extend = append


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        value = getattr(torch, name, None) if module == "torch" else None
        if isinstance(value, torch.dtype) or (isinstance(value, type) and name.endswith("Storage")):
            return value
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.UntypedStorage
        return _Inert


#: What `torch.load` expects of a pickle module.
_DATA_PICKLE = SimpleNamespace(
    __name__="vice_data_pickle",
    Unpickler=_DataUnpickler,
    load=lambda file, **options: _DataUnpickler(file, **options).load(),
    loads=lambda data, **options: _DataUnpickler(io.BytesIO(data), **options).load(),
)


def read_tensors(file: str | Path) -> Any:
    """Reads a PyTorch file as data.

    Args:
        file: A file written by `torch.save`.

    Returns:
        The object tree; objects of foreign classes are empty or dict-like records.

    Raises:
        UserError: The file is missing, truncated or not a PyTorch file.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_DATA_PICKLE)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {file} does not exist") from error
    except Exception as error:
        raise UserError(f"{file} is not a whole PyTorch checkpoint ({error})") from error


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
        raise UserError(f"{file} is not a VISSL checkpoint: it has no model state") from error
    card = _card_beside(file)
    tensors = {f"embedder.{_strip(name)}": value for name, value in trunk.items()}
    for name, value in heads.items():
        if name.endswith("prototypes.weight"):
            tensors["prototypes.weight"] = value
    return card, tensors


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
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} has no {ARCHITECTURE_NAME} beside it; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not whole ({error}); {remedy}") from error
    if not isinstance(card, dict):
        raise UserError(f"{path}: describes no architecture; {remedy}")
    return card

"""Weights of a timm model from a local file, with every key accounted for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vice.errors import UserError
from vice.foreign import read_tensors

logger = logging.getLogger(__name__)
#: Where trainers put the weights inside a file: DINO's teacher, running averages, plain ones.
_PLACES = ("teacher", "state_dict_ema", "model_ema", "state_dict", "model")
#: What wrappers put before each name.
_PREFIXES = ("module.", "_orig_mod.", "backbone.")
_SHOWN = 3


def load_weights(net: nn.Module, file: str | Path, name: str) -> None:
    """Loads a file into a timm model, all of it or nothing.

    Weights of the model's authors are renamed, and position embeddings resampled, as timm does
    for its own downloads. What the model has no place for (classifiers, projection heads) is
    logged. Nothing in the file is run.

    Args:
        net: Made by `timm.create_model`.
        file: ``.safetensors``, or written by `torch.save`.
        name: What the user calls the model, for messages.

    Raises:
        UserError: The file cannot be read, or lacks weights, or holds some of another shape or
            values that are not finite.
    """
    state = _renamed(_unwrapped(_read(Path(file))), net, file, name)
    wanted = net.state_dict()
    # Files of old versions of PyTorch lack the counters of batch normalisation.
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in state and key not in counters]
    unlike = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or unlike:
        shown = ", ".join((missing + unlike)[:_SHOWN])
        raise UserError(
            f"cannot load the weights of {name} from {file}: {len(missing)} are missing and "
            f"{len(unlike)} have another shape, for example {shown}"
        )
    found = {key: state[key] for key in wanted if key in state}
    broken = [key for key, value in found.items() if not value.isfinite().all()]
    if broken:
        raise UserError(f"{file}: {broken[0]} holds values that are not finite")
    left = sorted(set(state) - set(wanted))
    if left:
        shown = ", ".join(left[:_SHOWN]) + (" ..." if len(left) > _SHOWN else "")
        logger.warning("%s: %d weights are not part of %s: %s", file, len(left), name, shown)
    net.load_state_dict({**wanted, **found})


def _read(file: Path) -> Any:
    if file.suffix != ".safetensors":
        return read_tensors(file)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a whole safetensors file ({error})") from error


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of a file under the names that their network gave them."""
    for place in _PLACES:
        if isinstance(content, Mapping) and isinstance(content.get(place), Mapping):
            content = content[place]
    state = dict(content) if isinstance(content, Mapping) else {}
    state = {key: value for key, value in state.items() if isinstance(key, str)}
    state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    while prefix := _common_prefix(state):
        # Projection heads lie beside the backbone.
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _common_prefix(state: Mapping[str, Tensor]) -> str:
    for prefix in _PREFIXES:
        if 2 * sum(key.startswith(prefix) for key in state) > len(state):
            return prefix
    return ""


def _renamed(
    state: dict[str, Tensor], net: nn.Module, file: str | Path, name: str
) -> dict[str, Tensor]:
    """The tensors under timm's names; timm keeps the rules for that beside each architecture."""
    rename = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if not state or rename is None:
        return state
    try:
        found = rename(state, net)
    # It trusts the file to be of this architecture, and meets others with almost any exception.
    except Exception as error:
        raise UserError(
            f"cannot load the weights of {name} from {file}: they are of another architecture "
            f"({type(error).__name__}: {error})"
        ) from error
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}

"""Weights of a timm model from a local file, with every key accounted for."""

from __future__ import annotations

import contextlib
import io
import sys
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vice.model_specs import split_key
from vice.models.weight_files import read_weights
from vice.models.weight_match import NO_TENSORS, Match, State, compare
from vice.models.weight_names import hugging_face_vit, lukemelas_efficientnet
from vice.models.weight_search import find_weights

#: What timm calls the function beside an architecture that renames its authors' weights.
_FILTERS = ("checkpoint_filter_fn", "_filter_fn")
#: What TensorFlow's batch normalisation adds to the variance; other EfficientNets add less.
_TENSORFLOW_EPS = 1e-3


def load_weights(net: nn.Module, file: str | Path, name: str) -> dict[str, Any]:
    """Loads a file into a timm model, all of it or nothing.

    Weights of the model's authors are renamed, and position embeddings resampled, as timm does
    for its own downloads; so are those under Hugging Face's names, and lukemelas's EfficientNets.
    What the model has no place for (classifiers, projection heads) is logged. Nothing in the file
    is run.

    Args:
        net: Made by `timm.create_model`.
        file: ``.safetensors``, or written by `torch.save`, or a folder of Hugging Face;
            ``FILE#KEY`` says which of several weights.
        name: What the user calls the model, for messages.

    Returns:
        Where the weights were, for results.json (see `vice.models.weight_search.FoundWeights`).

    Raises:
        UserError: The file cannot be read, or lacks weights, or holds some of another shape or
            values that are not finite, or several that differ.
    """
    path, key = split_key(file)
    wanted = net.state_dict()
    weights = find_weights(
        read_weights(path),
        partial(_match, net=net, wanted=wanted, name=name),
        file=path,
        key=key,
        least=max(1, sum(not k.endswith("num_batches_tracked") for k in wanted) // 2),
        marks=(max(wanted, key=len),),
        name=name,
        nothing=partial(_nothing, name=name),
    )
    net.load_state_dict({**wanted, **weights.tensors})
    return weights.source


def _match(state: State, net: nn.Module, wanted: dict[str, Tensor], name: str) -> Match:
    tensors, layout = state, "timm"
    if (renamed := hugging_face_vit(state)) is not None:
        tensors, layout = renamed, "Hugging Face"
    elif (renamed := lukemelas_efficientnet(state, wanted)) is not None:
        tensors, layout = renamed, "lukemelas"
        if getattr(getattr(net, "bn1", None), "eps", None) != _TENSORFLOW_EPS:
            model = name.removeprefix("timm:")
            return Match(
                problem=f"{model} pads and normalises otherwise than these weights want: name its "
                f"port from TensorFlow (timm:tf_{model})",
                other=True,
            )
    try:
        filtered = _filtered(tensors, net)
    # Catch-all: timm trusts weights to be of this architecture, and raises anything at others.
    except Exception as error:
        shared = [key for key in wanted if key in tensors]
        reason = next(
            (
                f"{key} is {tuple(tensors[key].shape)}, not {tuple(wanted[key].shape)}"
                for key in shared
                if tensors[key].shape != wanted[key].shape
            ),
            f"{type(error).__name__}: {error}",
        )
        problem = f"they are of another architecture ({reason})"
        return Match(problem=problem, share=len(shared) / len(wanted), other=bool(shared))
    # Storage identity: what was renamed still lies where it lay.
    places = {value.data_ptr() for value in filtered.values()}
    dropped = {
        key: value
        for key, value in tensors.items()
        if key not in filtered and value.data_ptr() not in places
    }
    unused = dropped | {key: value for key, value in filtered.items() if key not in wanted}
    match = compare(filtered, wanted, unused, layout=layout, name=name)
    if match.problem and (remedy := _other_channels(filtered, wanted)):
        return Match(problem=remedy, share=match.share, other=True)
    return match


def _other_channels(state: State, wanted: dict[str, Tensor]) -> str | None:
    """What to do with weights for images of other than three channels."""
    first = next((key for key, value in wanted.items() if value.ndim == 4), "")
    value = state.get(first)
    if value is None or value.ndim != 4 or value.shape[1] == wanted[first].shape[1]:
        return None
    return (
        f"its first layer takes {value.shape[1]} channels, and images have "
        f"{wanted[first].shape[1]} here: make the channels out of RGB in a module of your own and "
        "embed with it as MODULE:CALLABLE"
    )


def _filtered(state: State, net: nn.Module) -> State:
    """The tensors under timm's names; timm keeps the rules for that beside each architecture."""
    module = sys.modules[type(net).__module__]
    rename = next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
    if rename is None or not state:
        return state
    state = dict(state)
    if "register_tokens" in state or "blocks.0.mlp.w12.weight" in state:
        # Mask token: by it timm knows weights of DINOv2, and not all copies have it.
        state.setdefault("mask_token", torch.zeros(1, 1))
    arguments = (state, net) if len(signature(rename).parameters) > 1 else (state,)
    # Standard output: some rules talk to the terminal.
    with contextlib.redirect_stdout(io.StringIO()):
        renamed = rename(*arguments)
    return {key: value for key, value in renamed.items() if isinstance(value, Tensor)}


def _nothing(flat: State, name: str) -> str:
    if not flat:
        return NO_TENSORS
    shown = ", ".join(list(flat)[:3])
    return (
        f"it holds no weights of {name}, and none of its {len(flat)} weights has a name that they "
        f"have, for example {shown}; name the architecture that they are of"
    )

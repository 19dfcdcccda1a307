"""Embedder and concepts out of a card and tensors, or what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vice.errors import UserError
from vice.models import Concepts, Embedder, Prototypes, build_embedder
from vice.models.concepts import SPACES, UNIT
from vice.models.uninitialized import Uninitialized


def build_saved(card: dict[str, Any], tensors: dict[str, Tensor], file: Path) -> Embedder:
    """The embedder that a card describes, with the weights of the file.

    Raises:
        UserError: The card names no architecture that is known here, or another than the weights'.
    """
    config, weights = card.get("embedder"), _under(tensors, "embedder.")
    if not isinstance(config, dict):
        raise UserError(f"{file} names no architecture: its card has no group 'embedder'")
    try:
        # Meta device: memory is taken only once the weights are known to fit.
        with torch.device("meta"), Uninitialized():
            plan = build_embedder(**config, weights=None)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file} names an architecture that is unknown here: {error}") from error
    _fit(plan, {name: value.to("meta") for name, value in weights.items()}, file)
    with Uninitialized():
        embedder = build_embedder(**config)
    _fit(embedder, weights, file)
    return embedder


def saved_concepts(
    card: dict[str, Any], tensors: dict[str, Tensor], dim: int, file: Path
) -> Concepts | None:
    """The concepts of a file, of embeddings of a width; None where it holds none.

    Raises:
        UserError: They do not go with the embedder, or are of a kind that is unknown here.
    """
    found = _under(tensors, "prototypes.")
    if "weight" not in found:
        return None
    weight, bias, space = found["weight"], found.get("bias"), card.get("space", UNIT)
    if weight.ndim != 2 or not len(weight) or weight.shape[1] != dim:
        raise UserError(
            f"{file}: its prototypes are {tuple(weight.shape)}, not (K, {dim}) as its embedder "
            "needs"
        )
    with Uninitialized():
        module = Prototypes(weight.shape[1], weight.shape[0])
    _fit(module, {"weight": weight}, file)
    if bias is not None and (bias.shape != weight.shape[:1] or not bias.is_floating_point()):
        raise UserError(
            f"{file}: the bias of its prototypes is {bias.dtype} {tuple(bias.shape)}, not "
            f"floating point ({len(weight)},)"
        )
    if space not in SPACES:
        raise UserError(
            f"{file}: its concepts are in a space {space!r} that is unknown here; known are "
            f"{', '.join(SPACES)}"
        )
    bias = None if bias is None else bias.to(module.weight.dtype)
    return dataclasses.replace(module.concepts(), bias=bias, space=space)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)
    }


def _fit(module: torch.nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    """Loads tensors into a module, or says exactly which do not fit."""
    wanted = module.state_dict()
    for name, value in tensors.items():
        if name in wanted and value.is_floating_point() != wanted[name].is_floating_point():
            raise UserError(f"{file}: {name} is {value.dtype}, not {wanted[name].dtype}")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{file} does not fit the architecture it names: {error}") from error

"""Checkpoints as data: saving and loading embedders without ever running code from a file.

ViCE's own format is one safetensors file (``vice.safetensors``) whose header carries the
architecture, the metadata and a checksum as JSON; ``vice.json`` beside it is a copy for people.
VISSL's ``.torch`` files are read through `vice.models.foreign`, which builds tensors and plain
containers only.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vice.errors import UserError
from vice.images import Reading
from vice.model_specs import fresh_config
from vice.models import Concepts, Embedder, Prototypes, seeded_embedder
from vice.models.checkpoint_files import find_checkpoint
from vice.models.concepts import UNIT
from vice.models.own_files import (
    CHECKSUM,
    checksum,
    first_not_finite,
    is_damaged,
    read_safetensors,
    reads_as_safetensors,
    write_safetensors,
)
from vice.models.saved_parts import build_saved, saved_concepts
from vice.names import printable
from vice.paths import from_home, text_from_home
from vice.runtime.files import make_folder, write_text
from vice.runtime.run_folder import CARD_NAME, WEIGHTS_NAME

logger = logging.getLogger(__name__)

FORMAT = 1
#: Key of the metadata under which a card says how the images of a training were read.
READING = "reading"
#: What results say of a training, where its card does.
_TOLD = ("foreground", "supervision", READING)


@dataclass
class Checkpoint:
    """A trained embedder and what belongs to it.

    Attributes:
        embedder: In evaluation mode, without gradients.
        concepts: What pixels are compared with, or None when the file holds none.
        meta: What training wrote beside the weights: seed, versions, iteration and the like.
        path: The file that was read.
    """

    embedder: Embedder
    concepts: Concepts | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def reading(self) -> Reading | None:
        """How the images of its training were read; None as 8-bit RGB.

        Raises:
            UserError: What the file says of it is damaged.
        """
        stored = self.meta.get(READING)
        return None if stored is None else Reading.of(stored, self.path or "the checkpoint")

    @property
    def prototypes(self) -> Prototypes | None:
        """The concepts as a module that shares their memory; None where they are no prototypes."""
        concepts = self.concepts
        if concepts is None or concepts.bias is not None or concepts.space != UNIT:
            return None
        return Prototypes.of(concepts.vectors)

    def required_concepts(self) -> Concepts:
        """The concepts.

        Raises:
            UserError: The file holds none.
        """
        if self.concepts is None:
            raise UserError(f"{self.path} holds no prototypes: it cannot be scored without labels")
        return self.concepts

    def required_directions(self) -> Concepts:
        """The concepts, if a pixel's direction alone decides between them.

        Raises:
            UserError: The file holds none, or concepts of another kind.
        """
        concepts = self.required_concepts()
        if concepts.space != UNIT:
            raise UserError(
                f"{self.path} holds concepts that are not compared by direction alone: without "
                "labels only prototypes are scored"
            )
        return concepts


def save_run(
    run_dir: str | Path,
    embedder: Embedder,
    concepts: Concepts | Prototypes | None = None,
    meta: dict[str, Any] | None = None,
) -> Path:
    """Writes ``vice.safetensors`` and ``vice.json`` into a run folder, atomically.

    Args:
        run_dir: Made if missing.
        embedder: What to save; its ``config`` is saved with it.
        concepts: Saved too when given: vectors as ``prototypes.weight``, a bias as
            ``prototypes.bias``, and a space other than ``"unit"`` as ``space`` of the card.
        meta: Anything JSON can hold.

    Returns:
        Path of the safetensors file.

    Raises:
        UserError: The folder cannot be written or the disk is full; files there are as they were.
    """
    folder = from_home(run_dir)
    make_folder(folder)
    tensors = {f"embedder.{name}": value for name, value in embedder.state_dict().items()}
    stored = concepts.concepts() if isinstance(concepts, Prototypes) else concepts
    if stored is not None:
        tensors["prototypes.weight"] = stored.vectors
    if stored is not None and stored.bias is not None:
        tensors["prototypes.bias"] = stored.bias
    card = {
        "format": FORMAT,
        "embedder": embedder.config,
        "num_prototypes": None if stored is None else len(stored),
        "meta": meta or {},
    }
    if stored is not None and stored.space != UNIT:
        card["space"] = stored.space
    card[CHECKSUM] = checksum(card, tensors)
    text = json.dumps(card, indent=2, sort_keys=True)
    path = folder / WEIGHTS_NAME
    write_safetensors(path, tensors, {"vice": text})
    write_text(folder / CARD_NAME, text + "\n")
    return path


def load_checkpoint(
    path: str | Path, *, device: str | torch.device = "cpu", of_epoch: bool = False
) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: A run folder, a ``.safetensors`` file of ours, or a VISSL ``.torch`` file of a ViCE
            run.
        device: Where to put the model.
        of_epoch: Whether the state of an epoch is what is wanted, so that none is warned of that
            is not of the end of its training.

    Returns:
        The checkpoint, its embedder frozen and in evaluation mode.

    Raises:
        UserError: Nothing there, a broken file, weights that do not fit the architecture or are
            not finite.
    """
    file = find_checkpoint(from_home(path))
    if reads_as_safetensors(file):
        card, tensors = _read_own(file)
    else:
        from vice.models.foreign import read_vissl_run

        card, tensors = read_vissl_run(file)
    broken = first_not_finite(tensors)
    if broken is not None:
        raise UserError(
            f"{file}: {broken} holds values that are not finite: the training diverged; take an "
            "earlier checkpoint"
        )
    embedder = build_saved(card, tensors, file)
    concepts = saved_concepts(card, tensors, embedder.dim, file)
    embedder.eval().requires_grad_(False).to(device)
    embedder.constant = True
    meta = card.get("meta", {})
    embedder.provenance = {name: meta[name] for name in _TOLD if name in meta}
    if early := _unfinished(meta):
        # A state that is asked for by its epoch needs no warning.
        level = logging.INFO if of_epoch else logging.WARNING
        logger.log(
            level, "%s is of %s, and not of the end of its training", printable(str(file)), early
        )
        embedder.provenance["unfinished"] = early
    concepts = None if concepts is None else concepts.to(device)
    return Checkpoint(embedder, concepts, meta, file)


def load_embedder(spec: str, *, seed: int = 0, device: str | torch.device = "cpu") -> Embedder:
    """An embedder to be scored, from one string.

    Args:
        spec: A path as in `load_checkpoint`; ``random:PATH``, with such a path, for the same
            architecture with fresh weights; ``random:BACKBONE-DECODER-DIM``, for example
            ``random:resnet18-fpn-128``; or ``imagenet:...`` of the same form, with torchvision's
            weights in the backbone.
        seed: Seed of the fresh weights.
        device: Where to put it.

    Returns:
        The embedder in evaluation mode, without gradients.

    Raises:
        UserError: The string names nothing that can be loaded.
    """
    spec = text_from_home(spec)
    kind, _, rest = spec.partition(":")
    if kind not in ("random", "imagenet"):
        return load_checkpoint(spec, device=device).embedder
    config = _fresh_config(kind, rest)
    embedder = seeded_embedder(seed, **config, weights="imagenet" if kind == "imagenet" else None)
    embedder.constant = True
    return embedder.eval().requires_grad_(False).to(device)


def _fresh_config(kind: str, text: str) -> dict[str, Any]:
    if os.path.exists(text):
        try:
            return load_checkpoint(text).embedder.config
        except UserError as error:
            raise UserError(
                f"{kind}:{text}: {error} (PATH is a run folder or a checkpoint of ViCE; other "
                f"networks are {kind}:BACKBONE-DECODER-DIM or random:timm:NAME)"
            ) from error
    return fresh_config(kind, text)


def _unfinished(meta: Mapping[str, Any]) -> str:
    """How far a checkpoint's training had come; empty where that was its end, or is unknown."""
    epoch, epochs = meta.get("epoch"), meta.get("epochs")
    if isinstance(epoch, int) and isinstance(epochs, int) and epoch < epochs:
        return f"epoch {epoch} of {epochs}"
    return ""


def _read_own(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    metadata, tensors = read_safetensors(file)
    try:
        card = json.loads(metadata["vice"])
    except (KeyError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(
            f"{file} was not written by ViCE: its header has no architecture"
        ) from error
    if not isinstance(card, dict):
        raise UserError(f"{file} was not written by ViCE: its header has no architecture")
    if "format" not in card:
        raise UserError(
            f"{file} was written by ViCE, but holds no run: of an export give the run that it was "
            "made of, or MODEL@FILE with its trunk, such as torchvision:resnet18@FILE"
        )
    if card["format"] != FORMAT:
        raise UserError(f"{file} has format {card['format']}; this version reads {FORMAT}")
    if is_damaged(card, tensors):
        raise UserError(
            f"{file} is damaged: its checksum is not that of its content; copy it again"
        )
    return card, tensors

"""Checkpoints and centroids of ViCE's own format, spoilt or written with other content."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import Action
from tests.hostile.damage import flip, spoil

Rng = np.random.Generator
Make = Callable[[Path, Rng], Path]
OWN = "vice.safetensors"


def load(spec: str | Path) -> Any:
    """What every evaluation does with its first argument."""
    from vice.models.load import load_extractor

    return load_extractor(str(spec))


def _as_it_was(folder: Path) -> Callable[[Any], str | None]:
    """The model is the one that was saved, to the last bit."""
    sound = {name: value.clone() for name, value in load(folder).state_dict().items()}

    def check(module: Any) -> str | None:
        state = module.state_dict()
        same = sound.keys() == state.keys() and all(
            torch.equal(value, state[name]) for name, value in sound.items()
        )
        return None if same else "other weights than those that were saved"

    return check


def own(change: Callable[[bytes, Rng], bytes], folder: Path, rng: Rng) -> Action:
    run = runs.run_folder(folder)
    check = _as_it_was(run)
    path = run / OWN
    path.write_bytes(change(path.read_bytes(), rng))
    return Action(run=lambda: load(run), names=(str(path),), check=check)


def _in_header(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, 8, 8 + struct.unpack("<Q", data[:8])[0])


def _in_data(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, 8 + struct.unpack("<Q", data[:8])[0])


def _in_length(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, 0, 8)


def _length(value: int) -> Callable[[bytes, Rng], bytes]:
    return lambda data, rng: struct.pack("<Q", value) + data[8:]


def _rewritten(change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> Make:
    """Our own file with another card and other tensors, written as safetensors should be."""

    def make(folder: Path, rng: Rng) -> Path:
        from safetensors import safe_open
        from safetensors.torch import save_file

        path = runs.run_folder(folder) / OWN
        with safe_open(path, framework="pt") as file:
            card = json.loads(file.metadata()["vice"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card.pop("sha256", None)
        changed = change(card, tensors)
        text = changed if isinstance(changed, str) else json.dumps(card)
        save_file(tensors, path, {"vice": text})
        return path

    return make


def _card(**values: Any) -> Make:
    return _rewritten(lambda card, tensors: card.update(values))


def _embedder(**values: Any) -> Make:
    return _rewritten(lambda card, tensors: card["embedder"].update(values))


def _some(change: Callable[[dict[str, torch.Tensor], str], object]) -> Make:
    return _rewritten(lambda card, tensors: change(tensors, min(tensors)))


CARDS: dict[str, Make] = {
    "format-of-the-future": _card(format=99),
    "format-a-list": _card(format=[1]),
    "no-architecture": _rewritten(lambda card, tensors: card.pop("embedder") is None),
    "architecture-a-list": _card(embedder=[1, 2]),
    "architecture-null": _card(embedder=None),
    "unknown-backbone": _embedder(backbone="os.system"),
    "backbone-a-number": _embedder(backbone=3),
    "unknown-option": _embedder(colour="blue"),
    "dim-of-text": _embedder(dim="4"),
    "dim-negative": _embedder(dim=-4),
    "dim-huge": _embedder(dim=10**12),
    "dim-other": _embedder(dim=5),
    "stages-nine": _embedder(stages=9),
    "stages-other": _embedder(stages=3),
    "download": _embedder(weights="http://localhost:9/x"),
    "card-a-list": _rewritten(lambda card, tensors: "[1]"),
    "card-a-number": _rewritten(lambda card, tensors: "3"),
    "card-no-json": _rewritten(lambda card, tensors: "{"),
    "card-nan": _rewritten(lambda card, tensors: '{"format": NaN}'),
    "card-deep": _rewritten(lambda card, tensors: "[" * 100_000),
    "meta-a-list": _card(meta=[1], format=[]),
    "missing-tensor": _some(lambda tensors, name: tensors.pop(name) is None),
    "extra-tensor": _some(lambda tensors, name: tensors.update({"embedder.x": torch.zeros(2)})),
    "wrong-shape": _some(lambda tensors, name: tensors.update({name: torch.zeros(1, 2)})),
    "nan": _some(lambda tensors, name: tensors[name].fill_(float("nan")) is None),
    "infinite": _some(lambda tensors, name: tensors[name].fill_(float("inf")) is None),
    "prototypes-a-vector": _some(lambda t, name: t.update({"prototypes.weight": torch.zeros(3)})),
    "prototypes-too-wide": _some(lambda t, name: t.update({"prototypes.weight": torch.ones(3, 9)})),
    "prototypes-none": _some(lambda t, name: t.update({"prototypes.weight": torch.ones(0, 4)})),
    "complex": _some(lambda t, name: t.update({name: t[name].to(torch.complex64)})),
    "whole-numbers": _some(lambda t, name: t.update({name: t[name].to(torch.int64)})),
}  # fmt: skip


def centroids(change: Callable[[bytes, Rng], bytes], folder: Path, rng: Rng) -> Action:
    from vice.models.centroids import Centroids

    path = folder / "centroids_3.safetensors"
    vectors = torch.eye(3, 4)
    Centroids(vectors, True, [1.0, 2.0], 7).save(path)
    path.write_bytes(change(path.read_bytes(), rng))

    def check(found: Any) -> str | None:
        return None if torch.equal(found.vectors, vectors) else "other centroids than were saved"

    return Action(run=lambda: Centroids.load(path), names=(str(path),), check=check)


def _centroid_card(name: str, value: str | None) -> Callable[[bytes, Rng], bytes]:
    def change(data: bytes, rng: Rng) -> bytes:
        from safetensors.torch import load, save

        size = struct.unpack("<Q", data[:8])[0]
        meta = json.loads(data[8 : 8 + size])["__metadata__"]
        meta.pop("sha256", None)
        meta.pop(name)
        return save(load(data), {**meta, **({} if value is None else {name: value})})

    return change


def _centroid_tensor(tensor: torch.Tensor) -> Callable[[bytes, Rng], bytes]:
    def change(data: bytes, rng: Rng) -> bytes:
        from safetensors.torch import save

        size = struct.unpack("<Q", data[:8])[0]
        meta = json.loads(data[8 : 8 + size])["__metadata__"]
        meta.pop("sha256", None)
        return save({"vectors": tensor}, meta)

    return change


CENTROIDS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "format": _centroid_card("format", "vice-centroids-9"),
    "no-seed": _centroid_card("seed", None),
    "seed-no-json": _centroid_card("seed", "{"),
    "spherical-text": _centroid_card("spherical", '"yes"'),
    "objective-number": _centroid_card("objective", "3"),
    "a-vector": _centroid_tensor(torch.zeros(4)),
    "nan": _centroid_tensor(torch.full((3, 4), float("nan"))),
    "none": _centroid_tensor(torch.zeros(0, 4)),
    "whole-numbers": _centroid_tensor(torch.zeros(3, 4, dtype=torch.int64)),
}
PARTS = {"header": _in_header, "data": _in_data, "length": _in_length, "any": spoil}
LENGTHS = {f"length-{n}": _length(n) for n in (0, 1, 10**9, 2**40, 2**63 - 1, 2**64 - 1)}

"""Concepts with names and colors, as a person has made them of clusters: ``concepts.json``."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vice.errors import UserError
from vice.labels import IGNORE
from vice.models.concepts import Concepts
from vice.models.load import is_spherical
from vice.names import printable
from vice.nearest import near_path
from vice.predictor import Predictor
from vice.runtime.files import read_json
from vice.visualize.maps import palette

FORMAT = "vice-concepts-1"
#: How vectors are compared: the greatest cosine, or the least distance.
COSINE, EUCLIDEAN = "cosine", "euclidean"
#: Value of a mask where the nearest vector is one of a concept that was dropped.
DROPPED = IGNORE
_COLOR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_GREATEST = float(np.finfo(np.float32).max)
#: How far the length of a vector that was written at unit length may be from it.
_ROUNDING = 1e-5
_REMEDY = "download it from the explorer again"


@dataclass(frozen=True, eq=False)
class NamedConcepts:
    """Concepts of one or several vectors each.

    A pixel belongs to the concept of its nearest vector. Vectors of dropped concepts compete as the
    others do; what is nearest to them is background.

    Attributes:
        vectors: What pixels are compared with, V of them.
        groups: int64 (V,), the concept of each vector, 0..K-1, or `DROPPED`.
        names: Of the K concepts.
        colors: uint8 (K, 3); None: those of `vice.visualize.maps.palette`.
    """

    vectors: Concepts
    groups: np.ndarray
    names: Sequence[str]
    colors: np.ndarray | None = None

    @classmethod
    def single(cls, concepts: Concepts, names: Sequence[str] | None = None) -> NamedConcepts:
        """Each vector a concept of its own, numbered unless named."""
        count = len(concepts)
        titles = [str(number) for number in range(count)] if names is None else list(names)
        if len(titles) != count:
            raise ValueError(f"{len(titles)} names for {count} concepts")
        return cls(concepts, np.arange(count), titles)

    @property
    def shown(self) -> np.ndarray:
        """uint8 (K, 3), colors of the concepts."""
        return palette(len(self.names)) if self.colors is None else self.colors

    @property
    def void(self) -> int | None:
        """`DROPPED` where concepts were dropped, else None: then each value is a concept's."""
        return DROPPED if len(self.groups) and self.groups.max() >= len(self.names) else None

    @property
    def is_grouped(self) -> bool:
        """Whether a concept has several vectors, or one was dropped."""
        return not np.array_equal(self.groups, np.arange(len(self.names)))

    def labels(self, nearest: np.ndarray) -> np.ndarray:
        """The concept of each pixel, by the number of its nearest vector; same shape."""
        return self.groups[nearest]


def model_title(name: str) -> str:
    """What a file that is passed on calls a model: without the folders that its file lies in.

    Example:
        >>> from vice.explore.named_concepts import model_title
        >>> model_title("outputs/folder/vice.safetensors")
        'folder'
        >>> model_title("timm:resnet18@weights/file.pth"), model_title("lab")
        ('timm:resnet18@file.pth', 'lab')
    """
    scheme, at, path = name.rpartition("@")
    parts = [part for part in re.split(r"[\\/]", path) if part]
    if not parts:
        return name
    in_run = len(parts) > 1 and parts[-1].endswith(".safetensors") and not at
    return f"{scheme}{at}{parts[-2] if in_run else parts[-1]}"


def read_named(path: Path, predictor: Predictor) -> NamedConcepts:
    """Reads ``concepts.json``.

    Args:
        path: The file.
        predictor: The model that it is to be applied to.

    Raises:
        UserError: It cannot be read, is not whole, or belongs to another model.
    """
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file{near_path(path, 'check the path')}")
    content = read_json(path, _REMEDY)
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: holds no concepts of ViCE (format {FORMAT}); {_REMEDY}")
    model = content.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("weights"), str):
        raise UserError(f"{path}: does not say of which model its concepts are; {_REMEDY}")
    if model["weights"] != predictor.weights:
        raise UserError(
            f"{path}: its concepts are those of another model ({model.get('name')}), and mean "
            f"nothing in {predictor.name}: give that model, or make an explorer of this one (vice "
            "explore)"
        )
    metric = COSINE if is_spherical(predictor.embedder) else EUCLIDEAN
    if content.get("metric") != metric:
        raise UserError(f"{path}: metric is {content.get('metric')!r}, not {metric!r}; {_REMEDY}")
    kept, dropped = (_entries(content, key, path, predictor.dim) for key in ("concepts", "dropped"))
    if not kept:
        raise UserError(f"{path}: holds no concept that was kept; keep at least one")
    if len(kept) > DROPPED:
        raise UserError(f"{path}: {len(kept)} concepts, but masks hold {DROPPED}: merge some")
    names = [entry["name"] for entry in kept]
    # Unicode: an accent may be a part of its letter, or stand behind it, and look the same.
    alike = [unicodedata.normalize("NFC", " ".join(name.split())) for name in names]
    twice = next((name for name in alike if alike.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two concepts are called {twice!r}; merge them, or rename one")
    groups = [k for k, entry in enumerate(kept) for _ in entry["vectors"]]
    groups += [DROPPED for entry in dropped for _ in entry["vectors"]]
    values = np.array(
        [vector for entry in (*kept, *dropped) for vector in entry["vectors"]], np.float64
    )
    if metric == COSINE:
        values = _directions(values)
    vectors = torch.from_numpy(values).float()
    made = Concepts(vectors) if metric == COSINE else Concepts.euclidean(vectors)
    colors = [[int(part, 16) for part in _COLOR.fullmatch(e["color"]).groups()] for e in kept]  # type: ignore[union-attr]
    return NamedConcepts(made, np.array(groups, np.int64), names, np.array(colors, np.uint8))


def _directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors at unit length; those that have it but for rounding stay as they are."""
    # Overflow: the square of a number that float32 holds may be too large or small for float64.
    scaled = vectors / np.abs(vectors).max(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.abs(lengths - 1) < _ROUNDING
    return np.where(unit, vectors, scaled / np.linalg.norm(scaled, axis=1, keepdims=True))


def _entries(content: dict[str, Any], key: str, path: Path, dim: int) -> list[dict[str, Any]]:
    found = content.get(key)
    if not isinstance(found, list):
        raise UserError(f"{path}: has no list {key!r}; {_REMEDY}")
    for number, entry in enumerate(found):
        place = f"{path}: {key}[{number}]"
        if isinstance(entry, dict) and not _can_be_shown(name := entry.get("name")):
            raise UserError(
                f"{place} has no name that can be shown on a line ({name!r}): give it another"
            )
        reason = _fault(entry, dim, content.get("metric") == COSINE)
        if reason:
            raise UserError(f"{place} {reason}; {_REMEDY}")
    return found


def _can_be_shown(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and printable(name) == name


def _fault(entry: Any, dim: int, directed: bool) -> str:
    """What is wrong with an entry but for its name; empty for nothing."""
    if not isinstance(entry, dict):
        return "is no object"
    color, vectors = entry.get("color"), entry.get("vectors")
    if not isinstance(color, str) or not _COLOR.fullmatch(color):
        return f"has the color {color!r}, not one such as '#1b64a5'"
    if not isinstance(vectors, list) or not vectors:
        return "has no vectors"
    for vector in vectors:
        whole = isinstance(vector, list) and len(vector) == dim
        if not whole or not all(type(value) in (int, float) for value in vector):
            return f"has a vector that is not {dim} numbers"
        # Comparison first: a whole number of JSON may be too large to become one of NumPy.
        if not all(abs(value) <= _GREATEST for value in vector):
            return "has a vector that is not finite"
        if directed and not any(vector):
            return "has a vector of zeros, which has no direction"
    return ""

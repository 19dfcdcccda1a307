"""A model as files of another program, in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vice.errors import UserError
from vice.export.doors import BYTES, INPUTS, Doors
from vice.export.facts import facts
from vice.export.folder import earlier_files, put
from vice.export.onnx_graphs import make_onnx, require
from vice.export.torchscript import make_torchscript
from vice.export.trials import TRIED, Trial
from vice.models.checkpoint import Checkpoint
from vice.paths import from_home
from vice.predictor import Predictor
from vice.predictor.given_concepts import given_concepts

#: Formats that hold the whole model, and what makes the files of each by name.
GRAPHS: dict[str, Callable[[Doors, dict[str, Any]], tuple[dict[str, bytes], Trial]]] = {
    "onnx": make_onnx,
    "torchscript": make_torchscript,
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: Their names.
        trial: How far they are from the model.
        segments: Whether they hold `segment`.
    """

    files: list[str]
    trial: Trial
    segments: bool


def export_graph(
    predictor: Predictor,
    folder: str | Path,
    to: str = "onnx",
    *,
    takes: str = BYTES,
    concepts: Any = None,
    groups: Sequence[int] | None = None,
    said: Mapping[str, Any] | None = None,
) -> Exported:
    """Writes a model's two doors as a graph that needs no ViCE.

    The graph is run beside the model first, at sizes that it was not traced with, and nothing is
    written if they differ. An earlier export to the same format is replaced, and what it has
    besides is removed, and named in the log.

    Args:
        predictor: The model, on the CPU.
        folder: Made if missing.
        to: ``"onnx"`` or ``"torchscript"``.
        takes: ``"bytes"`` for images uint8 (B, H, W, 3), with the normalization in the graph;
            ``"normalized"`` for float32 (B, 3, H, W) that `vice.Predictor.transform` made.
        concepts: What `segment` compares pixels with, as of `vice.Predictor.segment`; None takes
            the model's own, and without any there is `embed` alone.
        groups: What `segment` gives for each vector of the concepts, such as the number of the
            named concept that it belongs to; None gives the vector's number.
        said: What the files say besides, such as names; what JSON can hold.

    Returns:
        What was written.

    Raises:
        UserError: The network cannot be exported, a package is missing, or the folder cannot be
            written, or holds something else.
        ValueError: Another format or input, or not a group for each vector.

    Example:
        >>> import tempfile, torch, vice
        >>> from vice.export.write import export_graph
        >>> predictor = vice.load("lab", device="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = export_graph(predictor, folder, "torchscript")
        ...     graph = torch.jit.load(f"{folder}/model.torchscript")
        >>> graph.embed(torch.zeros(1, 20, 30, 3, dtype=torch.uint8)).shape
        torch.Size([1, 3, 20, 30])
    """
    if to not in GRAPHS:
        raise ValueError(f"to={to!r} is none of {', '.join(GRAPHS)}")
    folder = from_home(folder)
    earlier_files(folder, to)
    if to == "onnx":
        require()
    predictor = _with_concepts(predictor, concepts)
    vectors = predictor.checkpoint.concepts
    known = None if groups is None else torch.tensor(groups, dtype=torch.int64)
    if known is not None and (vectors is None or known.shape != vectors.vectors.shape[:1]):
        raise ValueError(f"groups {tuple(known.shape)} for {len(vectors or [])} vectors")
    doors = Doors(predictor.embedder, vectors, takes, known).eval()
    tried = [list(size) for size in TRIED]
    record = facts(predictor, format=to, input=INPUTS[takes], tried=tried, **(said or {}))
    graphs, trial = GRAPHS[to](doors, record)
    record |= {"difference": trial.difference, "relabeled": trial.relabeled}
    files = {name: partial(_write, data) for name, data in graphs.items()}
    return Exported(put(folder, to, files, record), trial, vectors is not None)


def _write(data: bytes, name: str) -> None:
    Path(name).write_bytes(data)


def _with_concepts(predictor: Predictor, concepts: Any) -> Predictor:
    """The same model with concepts in the place of its own."""
    if predictor.device.type != "cpu":
        raise UserError(f"{predictor.name} is exported from the CPU: load it with device=cpu")
    if concepts is None:
        return predictor
    from vice.models.load import is_spherical

    spherical = is_spherical(predictor.embedder)
    given = given_concepts(concepts, predictor.dim, spherical=spherical, device=predictor.device)
    checkpoint: Checkpoint = replace(predictor.checkpoint, concepts=given)
    return Predictor(checkpoint, "cpu", predictor.name, predictor.max_pixels)

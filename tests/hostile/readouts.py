"""Hostile options and data of the read-outs that share passes, and of the tools of each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.case import Action, Case
from tests.hostile.evaluations import evaluation

Rng = np.random.Generator
GROUP = "read-outs"
SHARE = 0.03
SCORE, RETRIEVAL = "score.py", "eval_retrieval.py"
POSITION, BOUNDARIES = "eval_position.py", "eval_boundaries.py"
_FEW = ["--set", "kmeans_pixels=300"]
_LBFGS = ["--set", "linear_optimizer=lbfgs", "linear_pixels=200", "kmeans_pixels=300"]

_REFUSED: dict[str, tuple[str, list[str], tuple[str, ...]]] = {
    "nothing-asked": (SCORE, [], ("--linear",)),
    "views-without-clusters": (SCORE, ["--linear", "--label-free"], ("clusters",)),
    "clusters-zero": (SCORE, ["--clusters", "0"], ("clusters",)),
    "clusters-twice": (SCORE, ["--clusters", "3", "3"], ("clusters",)),
    "position-zero": (SCORE, ["--position", "0"], ("--position: 0",)),
    "position-negative": (SCORE, ["--position", "-2"], ("clusters", "position")),
    "position-twice": (SCORE, ["--position", "2", "2"], ("clusters",)),
    "position-text": (SCORE, ["--position", "two"], ("position",)),
    "position-huge": (SCORE, ["--position", "1000000000"], ("--position: 1000000000",)),
    "memory-negative": (SCORE, ["--linear", "--memory-gib", "-1"], ("memory",)),
    "memory-nan": (SCORE, ["--linear", "--memory-gib", "nan"], ("memory",)),
    "protocol-of-nothing": (SCORE, ["--linear", "--retrieval-protocol", "native"], ("retrieval",)),
    "protocol-unknown": (SCORE, ["--retrieval", "--retrieval-protocol", "x9"], ("x9",)),
    "outlines-missing": (SCORE, ["--clusters", "2", "--boundaries", "nowhere"], ("nowhere",)),
    "outlines-empty": (SCORE, ["--clusters", "2", "--boundaries", ""], ("--boundaries: empty",)),
    "outlines-a-file": (SCORE, ["--boundaries", "data/classes.txt"], ("classes.txt",)),
    "outlines-of-nothing": (SCORE, ["--boundaries", "data"], ("prototypes", "ANNOTATOR")),
    "outlines-of-nobody": (SCORE, ["--clusters", "2", "--boundaries", "data"], ("ANNOTATOR",)),
    "field-of-none": (SCORE, ["--position", "--set", "kmeans_pixels=9"], ("kmeans_pixels",)),
    "retrieval-memory": (RETRIEVAL, ["--memory-gib", "0"], ("memory",)),
    "retrieval-memory-nan": (RETRIEVAL, ["--memory-gib", "nan"], ("memory",)),
    "retrieval-fraction-nan": (RETRIEVAL, ["--fraction", "nan"], ("fraction",)),
    "retrieval-fraction-two": (RETRIEVAL, ["--fraction", "2"], ("fraction",)),
    "retrieval-patch": (RETRIEVAL, ["--set", "retrieval_patch=7"], ("retrieval_patch", "patches")),
    "retrieval-neighbours": (RETRIEVAL, ["--set", "retrieval_neighbours=0"], ("neighbours",)),
    "retrieval-one-split": (RETRIEVAL, ["--split-fit", "val"], ("val",)),
    "bias-clusters": (POSITION, ["--clusters", "0"], ("clusters",)),
    "bias-clusters-twice": (POSITION, ["--clusters", "2", "2"], ("clusters",)),
    "bias-cache": (POSITION, ["--cache-gib", "1"], ("cache",)),
    "bias-by-steps": (POSITION, ["--set", "linear_optimizer=sgd"], ("linear_optimizer",)),
    "bias-pixels": (POSITION, ["--set", "linear_pixels=0"], ("linear_pixels",)),
    "bias-spec": (POSITION, ["--no-spec", "nowhere.pth"], ("nowhere.pth",)),
    "edges-nobody": (BOUNDARIES, ["--clusters", "2"], ("ANNOTATOR",)),
    "edges-own": (BOUNDARIES, [], ("prototypes", "ANNOTATOR")),
    "edges-both": (BOUNDARIES, ["--clusters", "2", "--centroids", "a"], ("centroids",)),
    "edges-clusters": (BOUNDARIES, ["--clusters", "0"], ("clusters",)),
    "edges-clusters-many": (BOUNDARIES, ["--clusters", "900000"], ("clusters", "ANNOTATOR")),
    "edges-centroids": (BOUNDARIES, ["--centroids", "nowhere"], ("nowhere",)),
    "edges-no-centroids": (
        BOUNDARIES, ["--centroids", "data/classes.txt"], ("classes.txt", "ANNOTATOR"),
    ),
    "edges-split": (BOUNDARIES, ["--clusters", "2", "--split", "test"], ("test",)),
    "edges-split-above": (BOUNDARIES, ["--clusters", "2", "--split", "../val"], ("val",)),
    "edges-fit-split": (BOUNDARIES, ["--clusters", "2", "--fit-split", "test"], ("test",)),
    "edges-tolerance": (BOUNDARIES, ["--clusters", "2", "--tolerance", "-1"], ("tolerance",)),
    "edges-data": (BOUNDARIES, ["--clusters", "2", "--dataset", "nowhere"], ("nowhere",)),
}  # fmt: skip
_WORKED: dict[str, tuple[str, list[str]]] = {
    "all": (
        SCORE,
        ["--linear", "--clusters", "2", "--position", "2", "--retrieval", "--retrieval-protocol",
         "native", *_LBFGS],
    ),
    "outlines": (SCORE, ["--clusters", "2", "--boundaries", "people", *_FEW]),
}  # fmt: skip


def _with_people(
    tool: str, more: list[str], names: tuple[str, ...], folder: Path, rng: Rng
) -> Action:
    """The same beside a folder of what people drew: of one image nothing, of the other halves."""
    action = evaluation(tool, more, names, folder, rng)
    people = folder / "people"
    for kind in ("images", "labels"):
        (people / kind / "val").mkdir(parents=True)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (24, 30, 3), np.uint8)
        Image.fromarray(pixels).save(people / "images" / "val" / f"{name}.png")
        drawn_map = np.zeros((24, 30), np.uint8)
        drawn_map[:, 15:] = name == "b"
        Image.fromarray(drawn_map).save(people / "labels" / "val" / f"{name}_1.png")
    return action


FIXED = [
    *(
        Case(GROUP, f"refused/{name}", partial(evaluation, *rest), "refused")
        for name, rest in _REFUSED.items()
    ),
    *(
        Case(GROUP, f"worked/{name}", partial(_with_people, *rest, ()), "worked")
        for name, rest in _WORKED.items()
    ),
]


def _damaged(folder: Path, rng: Rng) -> Action:
    """One of the annotations is of another size, of three channels, cut short or gone."""
    action = _with_people(
        SCORE, ["--clusters", "2", "--boundaries", "people", *_FEW],
        ("a_1.png", "a.png", "ANNOTATOR"), folder, rng,
    )  # fmt: skip
    file = folder / "people" / "labels" / "val" / "a_1.png"
    damage = int(rng.integers(4))
    if damage == 0:
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(file)
    elif damage == 1:
        Image.fromarray(np.zeros((24, 30, 3), np.uint8)).save(file)
    elif damage == 2:
        file.write_bytes(file.read_bytes()[: int(rng.integers(1, 30))])
    else:
        file.unlink()
    return action


def drawn(number: int) -> Case:
    """A damaged annotation."""
    return Case(GROUP, f"annotation/{number}", _damaged, "refused")

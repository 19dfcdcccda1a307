"""What `vice.load` takes and what its predictor is given, sound and odd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.helpers import weight_layouts as layouts
from tests.hostile import runs
from tests.hostile.case import Action, Family

Rng = np.random.Generator
GROUP = "predictors"
SHARE = 0.03
_MODULE = """import torch

def make():
    return torch.nn.Conv2d(3, {dim}, {side}, padding={pad})
"""


def _picture(rng: Rng) -> np.ndarray:
    return rng.integers(0, 256, (int(rng.integers(8, 40)), int(rng.integers(8, 40)), 3), np.uint8)


def _loads(spec: str, dim: int, rng: Rng, environment: dict[str, str] | None = None) -> Action:
    image = _picture(rng)

    def run() -> Any:
        import vice

        predictor = vice.load(spec, device="cpu")
        concepts = rng.normal(size=(4, dim)).astype(np.float32)
        return predictor.embed(image), predictor.segment(image, concepts)

    def check(result: Any) -> str | None:
        embedding, segments = result
        if embedding.shape != (dim, *image.shape[:2]) or not embedding.isfinite().all():
            return f"an embedding of shape {tuple(embedding.shape)}"
        lengths = embedding.norm(dim=0)
        if spec != "lab" and not torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4):
            return "no unit vectors"
        return None if segments.shape == image.shape[:2] else "segments of another size"

    return Action(run=run, names=(spec,), check=check, environment=environment or {})


def _run_folder(folder: Path, rng: Rng) -> Action:
    run = runs.run_folder(folder, ("run", "a=b", "run (2)", "müller")[rng.integers(4)])
    return _loads(str((run, run / "vice.safetensors")[rng.integers(2)]), 4, rng)


def _foreign(folder: Path, rng: Rng) -> Action:
    state = layouts.prefixed(layouts.resnet18(), layouts.prefix(rng))
    if rng.random() < 0.5:
        hub = layouts.save_folder(state, folder / "hub", int(rng.integers(1, 4)))
        return _loads(str(hub), 512, rng)
    file = layouts.save({"state_dict": state}, folder / "w.pth", rng)
    return _loads(("", "torchvision:resnet18@")[rng.integers(2)] + str(file), 512, rng)


def _named(folder: Path, rng: Rng) -> Action:
    specs = {"lab": 3, "random:resnet18-fpn-8": 8, "random:timm:resnet10t": 512,
             f"random:{runs.run_folder(folder)}": 4}  # fmt: skip
    spec = list(specs)[int(rng.integers(len(specs)))]
    return _loads(spec, specs[spec], rng)


def _callable(folder: Path, rng: Rng) -> Action:
    import sys

    dim, pad = int(rng.integers(2, 9)), int(rng.integers(0, 3))
    name = f"own_{folder.name}_{rng.integers(1 << 30)}"
    (folder / f"{name}.py").write_text(_MODULE.format(dim=dim, side=2 * pad + 1, pad=pad))
    inner = _loads(f"{name}:make", dim, rng)

    def run() -> Any:
        sys.path.insert(0, str(folder))
        try:
            assert inner.run is not None
            return inner.run()
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop(name, None)

    return Action(run=run, names=inner.names, check=inner.check)


def _predictor(folder: Path) -> Any:
    import vice

    return vice.load(runs.run_folder(folder), device="cpu")


def _concepts(make: Callable[[np.ndarray], Any], *names: str) -> Any:
    """Concepts of some kind; nearest is what a loop over the pixels says."""

    def make_action(folder: Path, rng: Rng) -> Action:
        image = _picture(rng)
        table = rng.normal(size=(int(rng.integers(2, 9)), 4)).astype(np.float32)

        def run() -> Any:
            predictor = _predictor(folder)
            return predictor.embed(image), predictor.segment(image, make(table))

        def check(result: Any) -> str | None:
            embedding, segments = result
            unit = table / np.linalg.norm(table, axis=1, keepdims=True)
            scores = np.einsum("kd,dhw->khw", unit, embedding.numpy())
            best = np.take_along_axis(scores, segments.numpy()[None], 0)[0]
            return None if np.all(best >= scores.max(0) - 1e-4) else "not the nearest concept"

        return Action(run=run, names=names or ("concepts",), check=check)

    return make_action


def _centroids(table: np.ndarray) -> Any:
    from vice.models.centroids import Centroids

    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return Centroids(torch.from_numpy(unit), spherical=True)


def _turned(folder: Path, rng: Rng) -> Action:
    """An opened picture with an EXIF orientation, and its file."""
    orientation = int(rng.integers(1, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / ("a.jpg", "a.png")[rng.integers(2)]
    Image.fromarray(_picture(rng)).save(path, exif=exif)

    def run() -> Any:
        predictor = _predictor(folder)
        with Image.open(path) as image:
            return predictor.embed(path), predictor.embed(image)

    return Action(
        run=run,
        check=lambda pair: None if torch.equal(*pair) else f"not as its file ({orientation})",
    )


def _modes(folder: Path, rng: Rng) -> Action:
    mode = ("L", "RGB", "RGBA", "LA", "CMYK", "P", "1")[rng.integers(7)]
    image = Image.fromarray(_picture(rng)).convert(mode)
    path = folder / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)

    def run() -> Any:
        predictor = _predictor(folder)
        return predictor.embed(path), predictor.embed(image)

    return Action(
        run=run, check=lambda pair: None if torch.equal(*pair) else f"{mode} is not as its file"
    )


def _device(folder: Path, rng: Rng) -> Action:
    import vice

    run = runs.run_folder(folder)
    names = ("cuda:99", "cuda:-1", "gpu", "", "xla", "cpu:x", "CPU", "privateuseone", "cuda:1e3")
    device = names[int(rng.integers(len(names)))]
    return Action(run=lambda: vice.load(run, device=device), names=("device",))


def _parent(folder: Path, rng: Rng) -> Action:
    import vice

    (folder / "outputs").mkdir()
    for number in range(int(rng.integers(1, 4))):
        runs.run_folder(folder / "outputs", f"run{number}")
    return Action(
        run=lambda: vice.load(folder / "outputs", device="cpu"),
        names=(f"did you mean {folder / 'outputs' / 'run0'}",),
    )


def _without_concepts(folder: Path, rng: Rng) -> Action:
    spec = ("lab", "random:resnet18-fpn-8", "random:timm:resnet10t")[rng.integers(3)]
    image = _picture(rng)

    def run() -> Any:
        import vice

        return vice.load(spec, device="cpu").segment(image)

    return Action(run=run, names=("pass concepts",))


_SHAPE = "(K, 4)"
FAMILY = Family(
    GROUP,
    {
        "run": ("worked", _run_folder),
        "foreign": ("worked", _foreign),
        "named": ("worked", _named),
        "callable": ("worked", _callable),
        "concepts/numpy": ("worked", _concepts(lambda table: table)),
        "concepts/doubles": ("worked", _concepts(lambda t: np.asfortranarray(t, np.float64))),
        "concepts/double-tensor": ("worked", _concepts(lambda t: torch.from_numpy(t).double())),
        "concepts/long": ("worked", _concepts(lambda table: torch.from_numpy(table) * 7)),
        "concepts/list": ("worked", _concepts(lambda table: table.tolist())),
        "concepts/centroids": ("worked", _concepts(_centroids)),
        "concepts/turned": ("refused", _concepts(lambda table: np.zeros((4, 9)) + 1.0, _SHAPE)),
        "concepts/one": ("refused", _concepts(lambda table: table[0], _SHAPE)),
        "concepts/none": ("refused", _concepts(lambda table: table[:0], _SHAPE)),
        "concepts/maps": ("refused", _concepts(lambda table: table[None], _SHAPE)),
        "concepts/nan": ("refused", _concepts(lambda table: table * np.nan, _SHAPE)),
        "concepts/text": ("refused", _concepts(lambda table: "centroids.safetensors", _SHAPE)),
        "concepts/zero": ("refused", _concepts(lambda table: np.zeros((3, 4)))),
        "exif": ("worked", _turned),
        "modes": ("worked", _modes),
        "device": ("refused", _device),
        "parent": ("refused", _parent),
        "without-concepts": ("refused", _without_concepts),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

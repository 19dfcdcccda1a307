"""Hostile embedders, probes and labels: what must never get a score."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.hostile import runs
from tests.hostile.case import Action, Expected, Family, Make
from tests.hostile.evaluations import CLUSTER, FINETUNE, LINEAR, call
from vice.evaluation.compare import readouts

Rng = np.random.Generator
Spoil = Callable[[Tensor, Tensor, Rng], Any]
GROUP = "scores"
SHARE = 0.04
STEPS = ["--set", "linear_iterations=2", "linear_batch=1"]
SAMPLE = ["--set", "linear_optimizer=lbfgs", "linear_iterations=3", "linear_pixels=200"]
CLUSTERS = ["--clusters", "2", "--pixels", "200", "--iterations", "2"]
#: Every way to a score.
WAYS: tuple[tuple[str, list[str]], ...] = (
    (LINEAR, STEPS),
    (LINEAR, SAMPLE),
    (CLUSTER, CLUSTERS),
    (CLUSTER, [*CLUSTERS, "--set", "matchings=hungarian"]),
    (CLUSTER, [*CLUSTERS, "--set", "flip_average=true"]),
    (FINETUNE, [*STEPS, "--crop", "0"]),
)
_made: dict[str, Any] = {}


class Colors(nn.Module):
    """Scaled colours at stride 2, spoilt by a function of the input and of what was computed."""

    def __init__(self, spoil: Spoil, rng: Rng, dim: int = 4) -> None:
        super().__init__()
        self.dim, self.spoil, self.rng = dim, spoil, rng
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, dim))

    def forward(self, images: Tensor) -> Any:
        """Embeds a batch."""
        pooled = nn.functional.avg_pool2d(images, 2, ceil_mode=True)
        channels = pooled[:, torch.arange(self.dim) % 3]
        return self.spoil(channels * self.scale[:, None, None], images, self.rng)


def make() -> nn.Module:
    """What ``tests.hostile.scores:make`` names."""
    return Colors(_made["spoil"], _made["rng"], **_made["options"])


def _embedder(
    spoil: Spoil,
    folder: Path,
    rng: Rng,
    *,
    names: tuple[str, ...] = (".png",),
    ways: tuple[tuple[str, list[str]], ...] = WAYS,
    change: Callable[[Path, Rng], object] = lambda root, rng: None,
    options: dict[str, Any] | None = None,
    more: tuple[str, ...] = (),
    draws: bool = False,
) -> Action:
    data, out = runs.labelled(folder / "data", rng, 3), runs.earlier_results(folder)
    (out / "runner").mkdir()
    (out / "runner" / "last_checkpoint").write_text("earlier")
    change(data, rng)
    tool, arguments = ways[int(rng.integers(len(ways)))]
    given = ["tests.hostile.scores:make", "--dataset", str(data), "--out", str(out)]
    given += ["--device", "cpu", *arguments, *more]

    def run() -> Any:
        _made.update(spoil=spoil, rng=rng, options=options or {})
        with _hurried(draws):
            return call(tool, given)

    return Action(run=run, names=names, check=lambda result: _scored(out), writes=(out,))


@contextmanager
def _hurried(draws: bool) -> Iterator[None]:
    """Leaves out what takes seconds and has no part in scores: formatted configs, pictures."""
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(patch("mmengine.dataset.base_dataset.gc"))
        enter(patch("mmengine.runner.runner.collect_env", dict))
        enter(patch("mmengine.config.Config.pretty_text", ""))
        if not draws:
            enter(patch("vice.plugins.mmseg.results.plot_confusion", _no_picture))
        yield


def _no_picture(matrix: Any, classes: Any, path: Path, title: str) -> Path:
    return path


def _scored(out: Path) -> str | None:
    result = json.loads((out / "results.json").read_text())
    entries = readouts(result).values()
    if not all(0 <= entry["miou"] <= 1 and entry.get("classes_in_mean") for entry in entries):
        return "a score that is none"
    return None if "absent" in result else "absent classes are not told"


def _bad(rng: Rng) -> float:
    return float(rng.choice([np.nan, np.inf, -np.inf]))


def everywhere(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    return torch.full_like(out, _bad(rng)) + 0 * out


def one_pixel(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    y, x, d = (int(rng.integers(n)) for n in (out.shape[2], out.shape[3], out.shape[1]))
    mask = torch.zeros_like(out)
    mask[int(rng.integers(len(out))), d, y, x] = _bad(rng)
    return torch.where(mask == 0, out, mask)


def one_channel(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    mask = torch.zeros_like(out)
    mask[:, int(rng.integers(out.shape[1]))] = _bad(rng)
    return torch.where(mask == 0, out, mask)


def one_row(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    mask = torch.zeros_like(out)
    mask[:, :, -1] = _bad(rng)
    return torch.where(mask == 0, out, mask)


def later(calls: int) -> Spoil:
    """Sound for some batches, then not."""
    state = {"calls": 0}

    def spoil(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
        state["calls"] += 1
        return one_pixel(out, images, rng) if state["calls"] > calls else out

    return spoil


def marked(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    """Spoils images whose first pixel is pure red, wherever that is: also when mirrored."""
    edge = torch.stack([images[:, :, 0, 0], images[:, :, 0, -1]])
    red = ((edge[..., 0] > 2) & (edge[..., 1] < -1.9) & (edge[..., 2] < -1.7)).any(0)
    return torch.where(red[:, None, None, None], out + _bad(rng), out)


def mirrored(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    """Spoils images that are seen mirrored alone: their mark is at the right."""
    corner = images[:, :, 0, -1]
    red = (corner[:, 0] > 2) & (corner[:, 1] < -1.9)
    return torch.where(red[:, None, None, None], out + _bad(rng), out)


def _mark(split: str) -> Callable[[Path, Rng], object]:
    def change(root: Path, rng: Rng) -> None:
        path = root / "images" / split / f"{int(rng.integers(3))}.png"
        pixels = np.array(Image.open(path).convert("RGB"))
        pixels[0, 0] = (255, 0, 0)
        Image.fromarray(pixels).save(path)

    return change


def overflowing(dtype: torch.dtype) -> Spoil:
    """Numbers that are finite in float32 and not in another type, or the reverse."""

    def spoil(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
        if dtype is torch.float64:
            return out.double() * 1e300
        return (out * 1e30).to(dtype)

    return spoil


def huge(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    return out * float(10 ** rng.uniform(25, 36))


def typed(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    return out.to([torch.float16, torch.bfloat16, torch.float64][int(rng.integers(3))])


def wrong_type(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    types = [torch.int64, torch.uint8, torch.bool, torch.complex64]
    return out.detach().to(types[int(rng.integers(len(types)))])


def wrong_rank(out: Tensor, images: Tensor, rng: Rng) -> Any:
    forms = [out[0], out[:, 0], out[:, :, None], out.flatten(2), out.mean((2, 3)), out.sum()]
    return forms[int(rng.integers(len(forms)))]


def wrong_size(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    forms = [out[:0], out[:, :, :0], out[..., :0], out[:, :0], torch.cat([out, out])]
    return forms[int(rng.integers(len(forms)))]


def no_tensor(out: Tensor, images: Tensor, rng: Rng) -> Any:
    forms = [None, [out], (out,), {"out": out}, out.detach().numpy(), "text"]
    return forms[int(rng.integers(len(forms)))]


def width_changes(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    """Another D at random, from image to image."""
    return torch.cat([out, out[:, :1]], 1) if images.shape[2] % 2 else out[:, :-1]


def elsewhere(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    return out.to("meta")


def constant(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    return 0 * out + float(rng.choice([0.0, 1.0, -3.5]))


def sound(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    return out


def odd_size(out: Tensor, images: Tensor, rng: Rng) -> Tensor:
    """A stride of its own for each image, down to a single cell, or finer than the image."""
    size = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
    return nn.functional.interpolate(out, size)


def _ignored(split: str) -> Callable[[Path, Rng], object]:
    def change(root: Path, rng: Rng) -> None:
        for path in (root / "labels" / split).iterdir():
            Image.fromarray(np.full((30, 40), 255, np.uint8)).save(path)

    return change


def _one_labelled(split: str) -> Callable[[Path, Rng], object]:
    def change(root: Path, rng: Rng) -> None:
        _ignored(split)(root, rng)
        label = np.full((30, 40), 255, np.uint8)
        # One pixel of each class: a split of one class is refused.
        row, column = int(rng.integers(30)), int(rng.integers(39))
        label[row, column : column + 2] = rng.permutation(2)
        for path in (root / "labels" / split).iterdir():
            Image.fromarray(label).save(path)

    return change


def _outside_the_crop(root: Path, rng: Rng) -> None:
    for split in ("train", "val"):
        for path in (root / "labels" / split).iterdir():
            label = np.full((30, 40), 255, np.uint8)
            label[:3] = int(rng.integers(2))
            Image.fromarray(label).save(path)


def _more_classes(root: Path, rng: Rng) -> None:
    count = int(rng.integers(3, 40))
    names = ["dark & <deep>", "b" * 300, "طريق", "🌳 trees", "$\\frac{1}$ x"]
    names += [f"c{i}" for i in range(count)]
    (root / "classes.txt").write_text("\n".join(names[:count]) + "\n", encoding="utf-8")


def _one_class(root: Path, rng: Rng) -> None:
    (root / "classes.txt").write_text("all\n")
    for path in (root / "labels").glob("*/*.png"):
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)


_STEPPING = ((LINEAR, STEPS), (FINETUNE, [*STEPS, "--crop", "0"]))
_LABELLED = (*WAYS[:3], *WAYS[4:])
_CROP = ("crop=10", "score_at=input")


def _case(expected: Expected, spoil: Spoil, **rest: Any) -> tuple[Expected, Make]:
    return expected, partial(_embedder, spoil, **rest)


def _diverging(folder: Path, rng: Rng) -> Action:
    rate = f"linear_lr={10 ** rng.uniform(5.5, 6):.0f}.0"
    steps = ["--set", "linear_iterations=30", "linear_batch=1", rate]
    ways = ((LINEAR, steps), (FINETUNE, [*steps, "--crop", "0"]))
    return _embedder(sound, folder, rng, ways=ways, names=("linear_lr",))


FAMILY = Family(
    GROUP,
    {
        "everywhere": _case("refused", everywhere),
        "one-pixel": _case("refused", one_pixel),
        "one-channel": _case("refused", one_channel),
        "last-row": _case("refused", one_row),
        "after-the-first": ("refused", lambda f, r: _embedder(later(int(r.integers(3))), f, r)),
        "only-in-fit": _case("refused", marked, change=_mark("train"), ways=WAYS[1:]),
        "only-in-score": _case("refused", marked, change=_mark("val"), names=("val/",)),
        "only-mirrored": _case(
            "refused", mirrored, change=_mark("val"), names=("val/",), ways=(WAYS[4],)
        ),
        "overflow-half": ("refused", lambda f, r: _embedder(overflowing(torch.float16), f, r)),
        "overflow-double": ("refused", lambda f, r: _embedder(overflowing(torch.float64), f, r)),
        "huge": _case("either", huge, names=()),
        "diverging-probe": ("refused", _diverging),
        "other-type": _case("worked", typed),
        "wrong-type": _case("refused", wrong_type),
        "wrong-rank": _case("refused", wrong_rank),
        "wrong-size": _case("refused", wrong_size),
        "no-tensor": _case("refused", no_tensor),
        "width-changes": _case("refused", width_changes),
        "elsewhere": _case("refused", elsewhere),
        "constant": _case("worked", constant),
        "sound": _case("worked", sound),
        "odd-size": _case("either", odd_size, names=()),
        "nothing-to-fit": _case(
            "refused", sound, change=_ignored("train"), names=("labels/train",), ways=_LABELLED
        ),
        "nothing-to-score": _case(
            "refused", sound, change=_ignored("val"), names=("labels/val",)
        ),
        "no-label-needed": _case("worked", sound, change=_ignored("train"), ways=(WAYS[3],)),
        "hardly-labelled": ("worked", lambda f, r: _embedder(
            sound, f, r, change=_one_labelled(str(r.choice(["train", "val"]))))),
        "outside-the-crop": _case(
            "refused", sound, change=_outside_the_crop, names=("labelled pixel", "label maps"),
            ways=((LINEAR, [*STEPS, *_CROP]), (CLUSTER, [*CLUSTERS, "--set", *_CROP])),
        ),
        "odd-classes": _case("worked", sound, change=_more_classes, draws=True),
        "one-class": _case("worked", sound, change=_one_class, draws=True),
    },
)  # fmt: skip
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

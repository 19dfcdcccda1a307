"""Command lines on which something is said twice, or stands where it does not belong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import configs, runs
from tests.hostile.case import Action, Family
from vice.evaluation.options import evaluation_parser, task_arguments

Rng = np.random.Generator
GROUP = "command lines"
SHARE = 0.02
#: Options of one value, and values for each.
_SINGLE = {
    "--dataset": ("coco27", "camvid"), "--out": ("a", "b"), "--seed": ("1", "2"),
    "--split-fit": ("train", "val"), "--split-score": ("train", "val"), "--workers": ("0", "1"),
    "--device": ("cpu", "cpu"), "--data-root": ("data", "more"), "--protocol": ("native", "native"),
    "--fit-dataset": ("coco27", "msrc21"), "--cache-gib": ("0", "1"),
}  # fmt: skip


def _parsed(words: Sequence[str], kind: str = "linear") -> dict[str, Any]:
    """What an evaluation is called with."""
    from vice.errors import UserError

    parser = evaluation_parser(None, "")

    def error(message: str) -> Any:
        raise UserError(message)

    parser.error = error  # type: ignore[method-assign]
    return task_arguments(parser.parse_args(list(words)), kind)


def _twice(folder: Path, rng: Rng) -> Action:
    option = list(_SINGLE)[int(rng.integers(len(_SINGLE)))]
    one, two = _SINGLE[option]
    words = ["lab", option, one, "--workers=0"] if option != "--workers" else ["lab", option, one]
    words += ["--dataset", "camvid"] if option != "--dataset" else []
    words += [option, two] if rng.random() < 0.5 else [f"{option}={two}"]
    return Action(run=partial(_parsed, words), names=(option,))


def _fields(rng: Rng) -> list[str]:
    drawn = ["linear_lr=0.5", "linear_iterations=7", "linear_batch=3", "upsample=classes"]
    return [str(text) for text in rng.permutation(drawn)[: int(rng.integers(2, 5))]]


def _set_in_parts(folder: Path, rng: Rng) -> Action:
    """All of several ``--set`` count."""
    fields = _fields(rng)
    cut = int(rng.integers(1, len(fields)))
    words = ["lab", "--dataset", "camvid", "--protocol", "native"]
    words += ["--set", *fields[:cut], "--seed", "3", "--set", *fields[cut:]]

    def check(found: dict[str, Any]) -> str | None:
        protocol = found["protocol"]
        pairs = [text.split("=") for text in fields]
        wrong = [name for name, value in pairs if str(getattr(protocol, name)) != value]
        return f"lost: {wrong}" if wrong else None

    return Action(run=partial(_parsed, words), check=check)


def _field_twice(folder: Path, rng: Rng) -> Action:
    fields = _fields(rng)
    again = f"{fields[0].partition('=')[0]}=9"
    fields.insert(int(rng.integers(1, len(fields) + 1)), again)
    words = ["lab", "--dataset", "camvid", "--set", *fields]
    return Action(run=partial(_parsed, words), names=(again,))


def _option_and_field(folder: Path, rng: Rng) -> Action:
    which = ("fit", "score")[rng.integers(2)]
    words = ["lab", "--dataset", "camvid", f"--split-{which}", "val", "--set", f"{which}_split=x"]
    return Action(run=partial(_parsed, words), names=(f"--split-{which}",))


def _composed(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The configuration, and what was said of its overrides."""
    from vice.plugins.vissl.config import compose

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    kept = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    compose.logger.addHandler(handler)
    try:
        return compose.compose(list(words)), said
    finally:
        compose.logger.removeHandler(handler)
        logging.disable(kept)


def _key_twice(folder: Path, rng: Rng) -> Action:
    key = ("config.OPTIMIZER.num_epochs", "config.VICE.VIEWS.num_views", "config.SEED_VALUE")[
        rng.integers(3)
    ]
    words = [*configs.SMALL, f"{key}=3", f"{key}=4"]

    def check(found: tuple[Any, list[str]]) -> str | None:
        told = [line for line in found[1] if line.startswith(f"{key} is given")]
        return None if len(told) == 1 and ", 4, counts" in told[0] else f"said {found[1]}"

    return Action(run=partial(_composed, words), check=check)


def _no_override(folder: Path, rng: Rng) -> Action:
    word = ("--images", "photos", "vice/folder", "-v", "--config=x", "config", "??")[
        rng.integers(7)
    ]
    words = [*configs.SMALL, word]
    return Action(run=partial(_composed, words), names=(word, word.partition("=")[0]))


def _folder_of_demo(folder: Path, rng: Rng) -> Action:
    """What a demo's own options say, said once more."""
    from vice.experiments.train import train

    photos = runs.images(folder / "photos", rng, 2)
    key = ("config.CHECKPOINT.DIR", "config.DATA.TRAIN.DATA_PATHS", "+config.CHECKPOINT.DIR")[
        rng.integers(3)
    ]
    given = [f"{key}={('elsewhere', '[x]')['PATHS' in key]}"]
    return Action(run=lambda: train("vice/folder", photos, folder / "out", given), names=(key,))


def _own_pictures(folder: Path, rng: Rng) -> Action:
    """A run whose pictures would be among its images, or label maps that would."""
    from vice.plugins.vissl.config.configure import configure

    photos = runs.images(folder / "photos", rng, 2)
    (folder / "link").symlink_to("photos")
    out = folder / ("photos", "photos/runs/a", "link/run", "photos/../photos/x")[rng.integers(4)]
    wanted = "lies in the folder of images"
    if rng.random() < 0.4:
        photos, out = runs.labelled(folder / "set", rng), folder / "run"
        wanted = "is a labelled folder"
    words = [f"config.DATA.TRAIN.DATA_PATHS=[{photos}]", f"config.CHECKPOINT.DIR={out}"]
    return Action(run=lambda: configure([*configs.SMALL, *words]), names=(wanted,))


FAMILY = Family(
    GROUP,
    {
        "option-twice": ("refused", _twice),
        "set-in-parts": ("worked", _set_in_parts),
        "field-twice": ("refused", _field_twice),
        "option-and-field": ("refused", _option_and_field),
        "key-twice": ("worked", _key_twice),
        "no-override": ("refused", _no_override),
        "folder-of-demo": ("refused", _folder_of_demo),
        "own-pictures": ("refused", _own_pictures),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

"""Hostile options of the evaluations, beside the results of an earlier one."""

from __future__ import annotations

import runpy
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import runs
from tests.hostile.case import Action, Case
from tests.hostile.judge import TOOLS

Rng = np.random.Generator
GROUP = "evaluations"
SHARE = 0.06
CLUSTER, LINEAR, FINETUNE = "eval_cluster.py", "eval_linear.py", "finetune.py"


@cache
def _main(tool: str) -> Any:
    return runpy.run_path(str(TOOLS / tool))["main"]


def call(tool: str, arguments: list[str]) -> Any:
    """The tool's own main function with a command line."""
    kept = sys.argv
    sys.argv = [tool, *arguments]
    try:
        return _main(tool)()
    finally:
        sys.argv = kept


def evaluation(
    tool: str, more: list[str], names: tuple[str, ...], folder: Path, rng: Rng
) -> Action:
    """A tool on a small labelled folder, with further options beside results of an earlier run."""
    data = runs.labelled(folder / "data", rng)
    # Several read-outs have a folder each.
    several = tool == "score.py"
    out = (
        runs.earlier_results(folder / "out", "linear").parent
        if several
        else (runs.earlier_results(folder))
    )
    given = set(more)
    arguments = [] if {"--no-spec"} & given else ["lab"]
    arguments += [text for text in more if text != "--no-spec"]
    for option, value in {"--dataset": data, "--out": out, "--device": "cpu"}.items():
        if option not in given:
            arguments += [option, str(value)]
    return Action(
        run=lambda: call(tool, arguments),
        command=(tool, *arguments),
        names=names,
        writes=(out, folder / "outputs"),
    )


_REFUSED: dict[str, tuple[str, list[str], tuple[str, ...]]] = {
    "unknown-field": (CLUSTER, ["--set", "colour=blue"], ("colour",)),
    "no-value": (CLUSTER, ["--set", "upsample"], ("upsample",)),
    "wrong-choice": (CLUSTER, ["--set", "upsample=never"], ("upsample",)),
    "wrong-type": (LINEAR, ["--set", "linear_lr=fast"], ("linear_lr",)),
    "rate-nan": (LINEAR, ["--set", "linear_lr=NaN"], ("linear_lr",)),
    "rate-negative": (LINEAR, ["--set", "linear_lr=-1.0"], ("linear_lr",)),
    "rate-infinite": (LINEAR, ["--set", "linear_lr=Infinity"], ("linear_lr",)),
    "size-missing": (CLUSTER, ["--set", "resize=exact"], ("size",)),
    "size-text": (CLUSTER, ["--set", "resize=short", "size=big"], ("size",)),
    "size-zero": (CLUSTER, ["--set", "resize=short", "size=0"], ("size",)),
    "size-negative": (CLUSTER, ["--set", "resize=exact", "size=-3,5"], ("size",)),
    "crop-negative": (CLUSTER, ["--set", "crop=-1"], ("crop",)),
    "fit-crop-negative": (CLUSTER, ["--set", "fit_crop=-1"], ("fit_crop",)),
    "crop-ratio": (CLUSTER, ["--set", "fit_crops=five", "fit_crop_ratio=7.0"], ("fit_crop_ratio",)),
    "crop-ratio-nan": (CLUSTER, ["--set", "fit_crop_ratio=NaN"], ("fit_crop_ratio",)),
    "matchings-empty": (CLUSTER, ["--set", "matchings="], ("matchings",)),
    "matchings-twice": (CLUSTER, ["--set", "matchings=greedy,greedy"], ("matchings",)),
    "bottleneck-negative": (LINEAR, ["--bottleneck", "-4"], ("linear_bottleneck", "bottleneck")),
    "pixels-zero": (CLUSTER, ["--pixels", "0"], ("pixels",)),
    "iterations-zero": (CLUSTER, ["--iterations", "0"], ("iterations",)),
    "iterations-text": (LINEAR, ["--iterations", "many"], ("--iterations",)),
    "batch-zero": (LINEAR, ["--batch-size", "0"], ("batch",)),
    "clusters-zero": (CLUSTER, ["--clusters", "0"], ("clusters",)),
    "clusters-negative": (CLUSTER, ["--clusters", "-1"], ("clusters",)),
    "clusters-text": (CLUSTER, ["--clusters", "abc"], ("clusters",)),
    "clusters-twice": (CLUSTER, ["--clusters", "3", "3"], ("clusters",)),
    "clusters-none": (CLUSTER, ["--clusters"], ("clusters",)),
    "clusters-huge": (CLUSTER, ["--clusters", "1000000000"], ("clusters",)),
    "clusters-more-than-pixels": (CLUSTER, ["--clusters", "5000"], ("clusters",)),
    "protocol": (CLUSTER, ["--protocol", "vice2099"], ("vice2099",)),
    "one-split": (CLUSTER, ["--split-fit", "val"], ("val",)),
    "no-such-split": (CLUSTER, ["--split-score", "test"], ("test",)),
    "split-empty": (CLUSTER, ["--split-score", ""], ("split",)),
    "split-above": (CLUSTER, ["--split-score", "../val"], ("split", "val")),
    "data-missing": (CLUSTER, ["--dataset", "nowhere"], ("nowhere",)),
    "data-empty": (CLUSTER, ["--dataset", ""], ("--dataset: empty",)),
    "data-a-file": (CLUSTER, ["--dataset", "data/classes.txt"], ("classes.txt",)),
    "data-long": (CLUSTER, ["--dataset", "n" * 5000], ("nnn",)),
    "benchmark-missing": (CLUSTER, ["--dataset", "coco27"], ("coco",)),
    "root-missing": (CLUSTER, ["--dataset", "camvid", "--data-root", "nowhere"], ("nowhere",)),
    "other-fit-data": (CLUSTER, ["--fit-dataset", "nowhere"], ("nowhere",)),
    "spec-missing": (CLUSTER, ["--no-spec", "nowhere.pth"], ("nowhere.pth",)),
    "spec-empty": (CLUSTER, ["--no-spec", ""], ("checkpoint",)),
    "spec-unknown": (CLUSTER, ["--no-spec", "timm:nothing_at_all"], ("nothing_at_all",)),
    "spec-module": (CLUSTER, ["--no-spec", "no.such:thing"], ("no.such",)),
    "spec-of-no-module": (CLUSTER, ["--no-spec", "os:getcwd"], ("os:getcwd",)),
    "spec-fails": (CLUSTER, ["--no-spec", "os:abort_"], ("os:abort_",)),
    "spec-needs-arguments": (CLUSTER, ["--no-spec", "os:kill"], ("os:kill",)),
    "spec-random": (CLUSTER, ["--no-spec", "random:resnet18"], ("random:resnet18",)),
    "spec-random-dim": (CLUSTER, ["--no-spec", "random:resnet18-fpn-0"], ("0",)),
    "spec-torchvision": (CLUSTER, ["--no-spec", "torchvision:alexnet"], ("alexnet",)),
    "seed-negative": (CLUSTER, ["--seed", "-1"], ("seed",)),
    "seed-huge": (CLUSTER, ["--seed", "99999999999999"], ("seed",)),
    "workers-negative": (CLUSTER, ["--workers", "-1"], ("workers",)),
    "device": (CLUSTER, ["--device", "toaster"], ("toaster", "device")),
    "device-missing": (CLUSTER, ["--device", "cuda:7"], ("cuda", "device")),
    "cache-negative": (CLUSTER, ["--cache-gib", "-1"], ("cache",)),
    "cache-nan": (CLUSTER, ["--cache-gib", "nan"], ("cache",)),
    "memory-zero": (CLUSTER, ["--memory-gib", "0"], ("memory", "clusters", "k-means")),
    "memory-infinite": (CLUSTER, ["--memory-gib", "inf"], ("memory",)),
    "out-is-a-file": (CLUSTER, ["--out", "data/classes.txt"], ("classes.txt",)),
    "out-below-a-file": (CLUSTER, ["--out", "data/classes.txt/out"], ("classes.txt",)),
    "out-long": (CLUSTER, ["--out", "n" * 300], ("nnn",)),
    "fraction-zero": (FINETUNE, ["--fraction", "0"], ("fraction",)),
    "fraction-two": (FINETUNE, ["--fraction", "2"], ("fraction",)),
    "fraction-nan": (FINETUNE, ["--fraction", "nan"], ("fraction",)),
    "fraction-text": (FINETUNE, ["--fraction", "half"], ("fraction",)),
    "subset-seed-negative": (FINETUNE, ["--subset-seed", "-1"], ("seed",)),
    "rate-of-backbone": (FINETUNE, ["--backbone-lr-mult", "nan"], ("lr-mult", "backbone_lr_mult")),
    "finetune-crop": (FINETUNE, ["--crop", "-5"], ("crop",)),
    "finetune-cache": (FINETUNE, ["--cache-gib", "1"], ("cache-gib",)),
    "unknown-option": (LINEAR, ["--colour", "blue"], ("--colour",)),
}  # fmt: skip
#: Options of tools whose code belongs to the evaluations themselves.
_WORKED: dict[str, tuple[str, list[str]]] = {
    "plain": (CLUSTER, ["--clusters", "2", "--pixels", "300"]),
    "one-cluster": (CLUSTER, ["--clusters", "1", "--pixels", "300"]),
    "odd-name-of-results": (CLUSTER, ["--clusters", "2", "--pixels", "300", "--out", "a;b c/ä"]),
}  # fmt: skip

FIXED = [
    *(
        Case(GROUP, f"refused/{name}", partial(evaluation, *rest), "refused")
        for name, rest in _REFUSED.items()
    ),
    *(
        Case(GROUP, f"worked/{name}", partial(evaluation, *rest, ()), "worked")
        for name, rest in _WORKED.items()
    ),
    *(
        Case(GROUP, f"tool/{name}", partial(evaluation, *_REFUSED[name]), "refused", process=True)
        for name in ("clusters-zero", "wrong-type", "fraction-two")
    ),
]
_TEXTS = ("", "0", "-1", "nan", "1e9", "[]", "null", "true", "a,b", "2,2", "{}", '"x"', "é", "1.5")


def _field(folder: Path, rng: Rng) -> Action:
    import dataclasses

    from vice.evaluation.protocols import Protocol

    names = [field.name for field in dataclasses.fields(Protocol)]
    name, value = str(rng.choice(names)), str(rng.choice(_TEXTS))
    # The checkpoint does not exist: whatever the field, nothing can be run.
    more = ["--no-spec", "nowhere", "--set", f"{name}={value}"]
    return evaluation(CLUSTER, more, (name, "nowhere", "split"), folder, rng)


def drawn(number: int) -> Case:
    """A random value for a field of the protocol."""
    return Case(GROUP, f"field/{number}", _field, "refused")

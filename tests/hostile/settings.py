"""Settings that change a hash and nothing else, and results that cannot be told apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import runs
from tests.hostile.case import Action, Expected, Family, Make
from vice.evaluation.compare import make_tables
from vice.evaluation.comparison_page import to_markdown
from vice.evaluation.options import evaluation_parser, task_arguments
from vice.evaluation.protocols import get_protocol
from vice.evaluation.scored_folders import read_results

Rng = np.random.Generator
GROUP = "settings"
SHARE = 0.03
KINDS = ("linear", "clusters", "finetune")
_KMEANS = {"kmeans_pixels": (7, 9999), "kmeans_iterations": (2, 19)}
_SAMPLE = {"linear_pixels": (5, 5000), "linear_l2": (1, 9)}
_STEPS = ("linear_lr=0.5", "linear_batch=3", "linear_flip=false", "linear_photometric=true")


def _draw(rng: Rng, ranges: dict[str, tuple[int, int]]) -> str:
    name = str(rng.choice(list(ranges)))
    return f"{name}={int(rng.integers(*ranges[name]))}"


def _protocol(
    kind: str, texts: Sequence[str], folder: Path, rng: Rng, *, vain: str = "", protocol: str = ""
) -> Action:
    """The command line of an evaluation, up to the protocol that it comes to."""
    data = runs.labelled(folder / "data", rng, 1)
    given = ["lab", "--dataset", str(data)] + (["--protocol", protocol] if protocol else [])
    given += ["--set", *texts]

    def run() -> Any:
        args = evaluation_parser("", "").parse_args(given)
        return task_arguments(args, kind)["protocol"]

    def check(found: Any) -> str | None:
        published = get_protocol(protocol or "native")
        if (found.hash == published.hash) != (found == published):
            return "the hash does not say what differs"
        return None

    return Action(run=run, names=(vain or texts[0].partition("=")[0],), check=check)


def _refused(make: Any) -> tuple[Expected, Make]:
    return "refused", make


def _of_clusters(f: Path, r: Rng) -> Action:
    text = _draw(r, _KMEANS) if r.random() < 0.8 else "matchings=greedy"
    return _protocol(str(r.choice(["linear", "finetune"])), [text], f, r)


def _of_probes(f: Path, r: Rng) -> Action:
    others = (*_STEPS, "linear_bottleneck=4", "linear_optimizer=adam", "linear_iterations=3")
    text = str(r.choice(others)) if r.random() < 0.6 else _draw(r, _SAMPLE)
    return _protocol("clusters", [text], f, r)


def _steps_of_lbfgs(f: Path, r: Rng) -> Action:
    text = str(r.choice(_STEPS))
    texts = ["linear_optimizer=lbfgs", text]
    return _protocol("linear", texts, f, r, vain=text.partition("=")[0])


def _sample_of_steps(f: Path, r: Rng) -> Action:
    text = _draw(r, _SAMPLE)
    return _protocol(str(r.choice(["linear", "finetune"])), [text], f, r)


def _of_crops(f: Path, r: Rng) -> Action:
    text = f"fit_crop_ratio={r.uniform(0.1, 0.49):.3f}"
    return _protocol(str(r.choice(KINDS)), [text], f, r)


def _of_resizing(f: Path, r: Rng) -> Action:
    texts = ["interpolation=nearest", "interpolation=bicubic", "resize_library=torchvision"]
    texts.append(f"fit_size={int(r.integers(1, 99))}")
    return _protocol(str(r.choice(KINDS)), [str(r.choice(texts))], f, r)


def _same_size(f: Path, r: Rng) -> Action:
    size = int(r.integers(10, 500))
    texts = ["resize=short", f"size={size}", f"fit_size={size}"]
    return _protocol(str(r.choice(KINDS)), texts, f, r, vain="fit_size")


def _same_crop(f: Path, r: Rng) -> Action:
    size = int(r.integers(10, 500))
    return _protocol(
        str(r.choice(KINDS)), [f"crop={size}", f"fit_crop={size}"], f, r, vain="fit_crop"
    )


def _one_among_many(f: Path, r: Rng) -> Action:
    texts = ["upsample=classes", "flip_average=true", "crop=20", _draw(r, _KMEANS)]
    order = [texts[i] for i in r.permutation(len(texts))]
    return _protocol("linear", order, f, r, vain="kmeans")


def _its_own_value(f: Path, r: Rng) -> Action:
    name = str(r.choice(["native", "vice2022_lowres", "stego2022", "picie2021"]))
    fields = vars(get_protocol(name))
    field = str(r.choice([n for n in fields if n not in ("name", "dataset")]))
    value = fields[field]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else json.dumps(value).strip('"')
    return _protocol(str(r.choice(KINDS)), [f"{field}={text}"], f, r, protocol=name)


def _with_effect(f: Path, r: Rng) -> Action:
    kind = str(r.choice(KINDS))
    texts = ["upsample=classes", "flip_average=true", "crop=20", "fit_crop=10", "fit_split=other"]
    texts += [_draw(r, _KMEANS)] if kind == "clusters" else ["linear_lr=0.5", "linear_batch=3"]
    return _protocol(kind, [str(r.choice(texts))], f, r)


def _result(spec: str, seed: int) -> dict[str, Any]:
    protocol = get_protocol("native")
    return {
        "kind": "linear", "spec": spec, "seed": seed, "classes": ["a", "b"],
        "protocol": {"name": "native", "hash": protocol.hash, "fields": vars(protocol)},
        "dataset": {
            "name": "set", "fit_name": "set", "splits": {"fit": "train", "score": "val"},
            "images": {"fit": 1, "score": 1}, "list_checksums": {"fit": "f", "score": "s"},
        },
        "arguments": {},
        "linear": {"miou": 0.5, "accuracy": 0.6, "iou_per_class": {"a": 0.5, "b": None}},
    }  # fmt: skip


_NAMES = ("a", "b c", "it's", "müller", "照片", "1", "x,y", "(2023)", "#3", "%d", "n" * 90)


def _compared(f: Path, r: Rng, *, twins: bool, again: bool = False, nested: bool = False) -> Action:
    names = [str(name) for name in r.permutation(_NAMES)[: int(r.integers(2, 9))]]
    folders = [f / ("runs" if nested and i % 2 else "") / name for i, name in enumerate(names)]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        seed = number - (twins and number == len(folders) - 1)
        result = _result("lab", seed)
        # The same scores once more are counted once.
        result["linear"]["miou"] -= 0.1 * (seed < number)
        (folder / "results.json").write_text(json.dumps(result))
    given = [str(folder.relative_to(f)) for folder in folders]
    told = (f"{given[-2]} and {given[-1]} cannot be told apart",)
    if again:
        given.append(f"./{given[0]}/.")
        told = (f"{given[0]} is named twice", f"{Path(given[-1])} is named twice")

    def check(text: Any) -> str | None:
        return None if "mean over 1 of 2 classes" in text else "the mean is not explained"

    return Action(
        run=lambda: to_markdown(make_tables(read_results(given))), names=told, check=check
    )


FAMILY = Family(
    GROUP,
    {
        "of-clusters": _refused(_of_clusters),
        "of-probes": _refused(_of_probes),
        "steps-of-lbfgs": _refused(_steps_of_lbfgs),
        "sample-of-steps": _refused(_sample_of_steps),
        "of-crops": _refused(_of_crops),
        "of-resizing": _refused(_of_resizing),
        "same-size": _refused(_same_size),
        "same-crop": _refused(_same_crop),
        "scored-at-its-size": _refused(
            lambda f, r: _protocol(str(r.choice(KINDS)), ["score_at=input"], f, r)
        ),
        "one-among-many": _refused(_one_among_many),
        "its-own-value": ("worked", _its_own_value),
        "with-effect": ("worked", _with_effect),
        "twins": _refused(partial(_compared, twins=True)),
        "twins-apart": _refused(partial(_compared, twins=True, nested=True)),
        "one-twice": _refused(partial(_compared, twins=False, again=True)),
        "seeds": ("worked", partial(_compared, twins=False)),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

"""Hostile configs and overrides of a training: refused by name, or a run that can be built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import Action, Case

Rng = np.random.Generator
GROUP = "configs"
SHARE = 0.25
#: A run so small that it can be built in a fraction of a second.
SMALL = (
    "config=vice/folder",
    "config.VICE.DATASET.min_images_per_epoch=0",
    "config.VICE.VIEWS.num_views=2",
    "config.VICE.VIEWS.size=48",
    "config.VICE.PROTOTYPES.num_prototypes=6",
    "config.VICE.PROTOTYPES.dim=8",
    "config.VICE.LOSS.queue_length=20",
    "config.MODEL.TRUNK.VICE.stages=1",
    "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=2",
    "config.DATA.NUM_DATALOADER_WORKERS=0",
    "config.MACHINE.DEVICE=cpu",
)
VALUES = (
    "abc", "'12'", "''", "-1", "0", "1", "2", "1.5", "-0.5", "nan", "inf", "-inf", "1e30", "1e-30",
    "99999999999", "true", "null", "[]", "[1]", "[2,1]", "[0.5,2.0]", "[nan,nan]", "[a,b]",
    "[1,2,3]", "{a: 1}", "slic", "'${oops}'", "'${config.VICE}'", "???", "0x10", "\u0661",
)  # fmt: skip


def build(overrides: list[str]) -> Any:
    """Configures a run and builds its parts as VISSL does; draws the first views."""
    from classy_vision.optim import build_optimizer_schedulers
    from vissl.models.trunks import get_model_trunk

    from vice.plugins.vissl.config.configure import configure, write_config
    from vice.plugins.vissl.dataset import ViceImages
    from vice.plugins.vissl.resuming import prepare_resume

    _, config = configure(overrides)
    prepare_resume(config)
    write_config(config)
    source = ViceImages(config, config.DATA.TRAIN.DATA_PATHS[0], "TRAIN", "", "")
    method, sample = source.method, source[0][0]
    images = method.finish(method.collate([sample.drawn]), torch.device("cpu")).inputs[0]
    config.MODEL.TRUNK.VICE.weights = None
    with torch.device("meta"):
        trunk = get_model_trunk(config.MODEL.TRUNK.NAME)(config.MODEL, config.MODEL.TRUNK.NAME)
    head, loss = method.head(config.MODEL.TRUNK.VICE.dim), method.loss()
    rate = build_optimizer_schedulers(config.OPTIMIZER)["lr"](0.5)
    return images, head.prototypes.weight, loss, trunk.embedder.dim, rate


def _goes_together(built: Any) -> str | None:
    """Views, prototypes, embedder and loss are of one size, and everything is finite."""
    images, prototypes, loss, dim, rate = built
    if len(images) != loss.num_views:
        return f"{len(images)} views, but the loss expects {loss.num_views}"
    if prototypes.shape != (loss.num_prototypes, dim):
        return f"prototypes {tuple(prototypes.shape)}, embedder {dim}"
    if not (torch.isfinite(images).all() and torch.isfinite(prototypes).all()):
        return "views or prototypes are not finite"
    if prototypes.numel() * images.numel() > 10**8:
        return None
    maps = torch.randn(len(images), dim, 6, 6, generator=torch.Generator().manual_seed(0))
    regions = (torch.arange(36).view(6, 6)[None]).expand(len(images), 6, 6)
    value = _loss(loss, maps, prototypes, regions)
    return (
        None if value is None or (np.isfinite(value) and np.isfinite(rate)) else "loss not finite"
    )


def _loss(loss: Any, maps: torch.Tensor, prototypes: torch.Tensor, regions: Any) -> float | None:
    from vice.errors import UserError

    try:
        return float(loss(maps, prototypes, regions.int()).detach())
    except UserError:  # more prototypes than regions, which only the first batch can tell
        return None


def action(folder: Path, rng: Rng, more: list[str], *names: str) -> Action:
    """A training with further overrides, in the folder of an earlier run."""
    photos = runs.images(folder / "photos", rng)
    out = runs.run_folder(folder)
    (out / "train_config.yaml").write_text("earlier: true\n")
    own = [f"config.DATA.TRAIN.DATA_PATHS=[{photos}]", f"config.CHECKPOINT.DIR={out}"]
    overrides = [*SMALL, *own, *more]
    return Action(
        run=lambda: build(overrides),
        command=("run_distributed.py", *overrides),
        names=names,
        check=_goes_together,
        writes=(out / "train_config.yaml",),
    )


def _overriding(more: list[str], names: tuple[str, ...], folder: Path, rng: Rng) -> Action:
    return action(folder, rng, more, *names)


def _in_the_way(key: str, folder: Path, rng: Rng) -> Action:
    (folder / "file").write_text("I am a file\n")
    return action(folder, rng, [f"config.{key}={folder / 'file' / 'below'}"], key)


def keys() -> list[str]:
    """Every key of ViCE's own configs."""
    from vice.plugins.vissl.config.schema import all_options

    return [f"config.{key}" for key in all_options()]


def _random_value(folder: Path, rng: Rng) -> Action:
    key = keys()[int(rng.integers(len(keys())))]
    value = VALUES[int(rng.integers(len(VALUES)))]
    plus = "++" if rng.random() < 0.5 else ""
    return action(folder, rng, [f"{plus}{key}={value}"], key.rpartition(".")[2], key)


def _random_numbers(folder: Path, rng: Rng) -> Action:
    """Two keys with numbers of any size, most of them in range by themselves."""
    chosen = rng.choice([key for key in keys() if ".VICE." in key], 2, replace=False)
    more = []
    for key in chosen:
        size = 10.0 ** rng.uniform(-4, 4)
        value = float(f"{size:.2g}") if rng.random() < 0.5 else round(size)
        more.append(f"++{key}={value}")
    return action(folder, rng, more, *(key.rpartition(".")[2] for key in chosen))


def _misspelt(folder: Path, rng: Rng) -> Action:
    key = keys()[int(rng.integers(len(keys())))]
    place = int(rng.integers(7, len(key)))
    wrong = key[:place] + "xqz"[int(rng.integers(3))] + key[place + int(rng.integers(2)) :]
    if wrong == key:
        wrong += "s"
    return action(folder, rng, [f"{wrong}=1"], wrong, wrong.rpartition(".")[2])


def _deleted(folder: Path, rng: Rng) -> Action:
    key = keys()[int(rng.integers(len(keys())))]
    key = key if rng.random() < 0.7 else key.rpartition(".")[0]
    return action(folder, rng, [f"~{key}"], *key.split(".")[1:])


def _garbled(folder: Path, rng: Rng) -> Action:
    key = keys()[int(rng.integers(len(keys())))]
    letters = list("=[]{}'\"$\\,:#~+@!*() \tabc019.-")
    text = "".join(rng.choice(letters, int(rng.integers(1, 15))))
    return action(folder, rng, [f"{key}={text}" if rng.random() < 0.7 else text])


_REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no-such-config": (["config=vice/foldr"], ("vice/foldr", "config")),
    "unknown-key": (["config.VICE.NOISE=1"], ("config.VICE.NOISE",)),
    "unknown-option": (["+config.VICE.VIEWS.sparkle=1"], ("sparkle",)),
    "unknown-superpixel-option": (["+config.VICE.SUPERPIXELS.colour=1"], ("colour",)),
    "not-an-override": (["--epochs", "3"], ("--epochs",)),
    "one-view": (["config.VICE.VIEWS.num_views=1"], ("num_views",)),
    "scale-reversed": (["config.VICE.VIEWS.scale=[2.0,0.5]"], ("scale",)),
    "probability": (["config.VICE.VIEWS.flip_probability=1.2"], ("flip_probability",)),
    "sigma-reversed": (["config.VICE.PHOTOMETRIC.sigma=[2,1]"], ("sigma",)),
    "too-much-hue": (["config.VICE.PHOTOMETRIC.strength=9"], ("PHOTOMETRIC", "strength")),
    "even-taps": (["+config.VICE.PHOTOMETRIC.taps=4"], ("taps",)),
    "views-of-the-loss": (["config.LOSS.vice_dense_swav.num_views=5"], ("num_views",)),
    "dim-of-the-trunk": (["config.MODEL.TRUNK.VICE.dim=9"], ("dim",)),
    "dim-of-the-loss": (["config.LOSS.vice_dense_swav.dim=9"], ("dim",)),
    "method": (["config.VICE.SUPERPIXELS.method=seeds"], ("method",)),
    "files-without-folder": (["config.VICE.SUPERPIXELS.method=files"], ("folder",)),
    "weights-gone": (["config.MODEL.TRUNK.VICE.weights=gone.pth"], ("weights", "gone.pth")),
    "timm-without-decoder": (
        ["config.MODEL.TRUNK.VICE.backbone='timm:vit_tiny_patch16_224'"],
        ("timm:vit_tiny_patch16_224",),
    ),
    "mode": (["config.VICE.STANDARDIZE.mode=middle"], ("mode",)),
    "sides": (["config.VICE.STANDARDIZE.min_side=900"], ("min_side",)),
    "reduction": (["config.VICE.LOSS.reduction=sum"], ("reduction",)),
    "region-vector": (["config.VICE.LOSS.region_vector=mode"], ("region_vector",)),
    "where": (["config.VICE.PHOTOMETRIC_ON=gpu"], ("PHOTOMETRIC_ON",)),
    "where-cut": (["config.VICE.CUT_ON=gpu"], ("CUT_ON",)),
    "cut-after-colours": (
        ["config.VICE.CUT_ON=device", "config.VICE.PHOTOMETRIC_ON=workers"],
        ("CUT_ON", "PHOTOMETRIC_ON"),
    ),
    "warm-up": (["config.VICE.SCHEDULE.warmup_epochs=99"], ("warmup_epochs",)),
    "backbone": (["config.MODEL.TRUNK.VICE.backbone=vgg"], ("backbone", "vgg")),
    "padding": (["config.MODEL.TRUNK.VICE.padding=mirror"], ("padding",)),
    "weights": (["config.MODEL.TRUNK.VICE.weights=instagram"], ("weights",)),
    "trunk": (["config.MODEL.TRUNK.NAME=vice_vgg"], ("TRUNK.NAME",)),
    "trunk-of-vissl": (["config.MODEL.TRUNK.NAME=resnet"], ("TRUNK.NAME",)),
    "stages-of-deeplab": (["config.MODEL.TRUNK.NAME=vice_resnet_deeplabv3plus"], ("stages",)),
    "optimizer": (["config.OPTIMIZER.name=adamw2"], ("OPTIMIZER.name",)),
    "device": (["config.MACHINE.DEVICE=tpu"], ("MACHINE.DEVICE",)),
    "gpus": (["config.MACHINE.DEVICE=gpu"], ("NUM_PROC_PER_NODE",)),
    "nodes": (["config.DISTRIBUTED.NUM_NODES=2"], ("NUM_NODES",)),
    "node-id": (["node_id=4"], ("node_id",)),
    "node-id-text": (["node_id=first"], ("node_id",)),
    "engine": (["engine_name=sing"], ("engine_name",)),
    "batch": (["config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=99"], ("BATCHSIZE_PER_REPLICA",)),
    "seed": (["config.SEED_VALUE=-1"], ("SEED_VALUE",)),
    "no-views": (["config.VICE.VIEWS=null"], ("VIEWS",)),
    "no-vice": (["config.VICE=null"], ("VICE",)),
    "vice-a-number": (["config.VICE=3"], ("VICE",)),
    "views-a-list": (["config.VICE.VIEWS=[1]"], ("VIEWS",)),
    "loops": (["config.VICE.VIEWS.size='${config.VICE.VIEWS.size}'"], ()),
    "quote": (["config.CHECKPOINT.DIR='runs"], ()),
    "bracket": (["config.DATA.TRAIN.DATA_PATHS=[photos"], ()),
    "no-value": (["config.SEED_VALUE"], ()),
    "no-key": (["=3"], ()),
    "empty": ([""], ()),
    "data-null": (["config.DATA.TRAIN.DATA_PATHS=null"], ("DATA_PATHS",)),
    "data-number": (["config.DATA.TRAIN.DATA_PATHS=3"], ("DATA_PATHS",)),
    "data-text": (["config.DATA.TRAIN.DATA_PATHS=photos"], ("DATA_PATHS",)),
    "data-empty": (["config.DATA.TRAIN.DATA_PATHS=[]"], ("DATA_PATHS",)),
    "data-two": (["config.DATA.TRAIN.DATA_PATHS=[photos,photos]"], ("DATA_PATHS",)),
    "data-missing": (["config.DATA.TRAIN.DATA_PATHS=[/no/such/place]"], ("/no/such/place",)),
    "data-group": (["config.DATA.TRAIN.DATA_PATHS=[{a: 1}]"], ("DATA_PATHS",)),
    "data-long": (["config.DATA.TRAIN.DATA_PATHS=[" + "n" * 5000 + "]"], ("DATA_PATHS",)),
    "folder-null": (["config.CHECKPOINT.DIR=null"], ("CHECKPOINT.DIR",)),
    "folder-empty": (["config.CHECKPOINT.DIR=''"], ("CHECKPOINT.DIR",)),
    "folder-is-a-file": (["config.CHECKPOINT.DIR=run/vice.json"], ("CHECKPOINT.DIR",)),
    "folder-of-the-system": (["config.CHECKPOINT.DIR=/proc/vice"], ("CHECKPOINT.DIR",)),
    "folder-too-long": (["config.CHECKPOINT.DIR=" + "n" * 5000], ("CHECKPOINT.DIR",)),
}  # fmt: skip
_WORKED: dict[str, list[str]] = {
    "as-it-is": [],
    "whole-for-number": ["config.VICE.LOSS.temperature=1"],
    "oblong-views": ["config.VICE.VIEWS.size=[32,48]"],
    "grid": ["config.VICE.SUPERPIXELS.method=grid"],
    "watershed": ["config.VICE.SUPERPIXELS.method=watershed"],
    "felzenszwalb": ["config.VICE.SUPERPIXELS.method=felzenszwalb"],
    "no-cache": ["config.VICE.SUPERPIXELS.cache_dir=null"],
    "no-queue": ["config.VICE.LOSS.queue_length=0", "config.VICE.PROTOTYPES.num_prototypes=3"],
    "no-warm-up": ["config.VICE.SCHEDULE.warmup_epochs=0"],
    "deeplab": [
        "config.MODEL.TRUNK.NAME=vice_resnet_deeplabv3plus",
        "config.MODEL.TRUNK.VICE.stages=4",
    ],
    "new-option": ["+config.VICE.VIEWS.canny_low=5"],
    "folder-with-spaces": ["config.CHECKPOINT.DIR='a run; touch code_ran'"],
    "folder-in-unicode": ["config.CHECKPOINT.DIR='läufe/木'"],
    "lars": ["config.OPTIMIZER.name=vice_lars"],
    "representative": ["config.VICE.LOSS.region_vector=representative"],
}  # fmt: skip

FIXED = [
    *(
        Case(GROUP, f"refused/{name}", partial(_overriding, *rest), "refused")
        for name, rest in _REFUSED.items()
    ),
    *(
        Case(GROUP, f"worked/{name}", partial(_overriding, more, ()), "worked")
        for name, more in _WORKED.items()
    ),
    *(
        Case(GROUP, f"in-the-way/{key}", partial(_in_the_way, key), "refused")
        for key in ("CHECKPOINT.DIR", "VICE.SUPERPIXELS.cache_dir")
    ),
    *(
        Case(GROUP, f"tool/{name}", partial(_overriding, *_REFUSED[name]), "refused", process=True)
        for name in ("one-view", "quote", "folder-is-a-file", "data-null")
    ),
]


def drawn(number: int) -> Case:
    """One random value, two random numbers, a misspelt or deleted key, or a garbled text."""
    ways: tuple[Callable[[Path, Rng], Action], ...] = (
        _random_value, _random_value, _random_value, _random_numbers, _misspelt, _deleted, _garbled,
    )  # fmt: skip
    make = ways[number % len(ways)]
    return Case(GROUP, f"{make.__name__.strip('_')}/{number}", make)

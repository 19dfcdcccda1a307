"""Files that would run code: kinds of programs, at every door that reads a file.

TorchScript archives, packages, pickles of all layouts and opcodes, arrays of objects, YAML with
tags, results that name a callable, pictures that are programs; and sound files beside them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import doors, runs
from tests.hostile.case import MARKER, Action, Expected, Family
from tests.hostile.payloads import Payload, saved
from tests.hostile.scripts import (
    nested_archives,
    opcode_pickle,
    other_markers,
    package,
    script,
    script_dressed,
    script_repacked,
    two_archives,
)

Rng = np.random.Generator
Content = Callable[[Path, Rng], bytes]
GROUP = "files that run code"
SHARE = 0.04


def _at_doors(content: Content) -> Callable[[Path, Rng], Action]:
    """The content at one of the doors that read tensors."""

    def make(folder: Path, rng: Rng) -> Action:
        door = list(doors.DOORS.values())[int(rng.integers(len(doors.DOORS)))]
        return door(content(folder, rng), folder, rng)

    return make


def _pickle(kind: str) -> Content:
    def content(folder: Path, rng: Rng) -> bytes:
        how = ("system", "eval", "exec", "open", "popen")[int(rng.integers(5))]
        payload = Payload(how, folder)
        path = saved({"state_dict": payload, "bomb": [payload]}, kind, folder / "made")
        data = path.read_bytes()
        path.unlink()
        return data

    return content


def _objects(folder: Path, rng: Rng) -> Action:
    """Arrays of objects, where regions or centroids are expected."""
    from vice.models.centroids import Centroids
    from vice.superpixels.external import from_file

    path = folder / f"0{('.npy', '.npz')[int(rng.integers(2))]}"
    array = np.array([[Payload("open", folder)]], object)
    (np.save if path.suffix == ".npy" else np.savez)(path, array)
    if rng.integers(3) == 0:
        path = path.rename(folder / "centroids_3.safetensors")
        return Action(run=lambda: Centroids.load(path), names=(path.name,))
    return Action(run=lambda: from_file(path, (1, 1)), names=(path.name,))


def _in_cache(folder: Path, rng: Rng) -> Action:
    """A cache of superpixels with objects in it: made anew."""
    from vice.superpixels import Superpixels

    image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    superpixels = Superpixels(region_size=8, cache_dir=folder / "cache")
    before = superpixels(image)
    (path,) = (folder / "cache").rglob("*.npz")
    np.savez(path, regions=np.array([Payload("open", folder)], object), key=np.array("x"))

    def check(found: Any) -> str | None:
        return None if np.array_equal(found, before) else "other regions"

    return Action(run=lambda: superpixels(image), check=check, writes=(folder / "cache",))


_TAGS = (
    "!!python/object/apply:os.system ['touch {marker}']",
    "!!python/object/apply:builtins.open ['{marker}', 'w']",
    "!!python/object/new:subprocess.Popen [['touch', '{marker}']]",
    "VICE: !!python/object/apply:builtins.eval [\"open('{marker}', 'w')\"]",
    "VICE: !!python/name:os.system ''",
    "VICE: !!python/module:antigravity ''",
)


def _tagged_yaml(folder: Path, rng: Rng) -> Action:
    from vice.evaluation.checkpoint_selection import choose_checkpoint

    run = runs.run_folder(folder)
    tag = _TAGS[int(rng.integers(len(_TAGS)))].format(marker=folder / MARKER)
    (run / "train_config.yaml").write_text(f"{tag}\n")
    images = sorted(runs.images(folder / "images", rng).iterdir())
    return Action(run=lambda: choose_checkpoint(run, images), names=("train_config.yaml",))


def _targets(folder: Path, rng: Rng) -> Action:
    """Keys that make objects elsewhere, in what is read back."""
    from vice.runtime.run_folder import read_config

    run = runs.run_folder(folder)
    target = f"_target_: os.system\n_args_: ['touch {folder / MARKER}']\n"
    home = "a: ${oc.env:HOME}\n"
    (run / "train_config.yaml").write_text(target + home)

    def check(found: Any) -> str | None:
        return None if found["a"] == "${oc.env:HOME}" else "a variable was looked up"

    return Action(run=lambda: read_config(run), check=check)


def _environment(folder: Path, rng: Rng) -> Action:
    from vice.plugins.vissl.config.compose import compose

    value = (
        "${oc.env:CANARY}",
        "x${ oc.env:CANARY,none}",
        "${oc.env:VICE_DATA,${oc.env:CANARY}}",
        "${oc.decode:${oc.env:CANARY}}",
        "${oc.env:${oc.env:NAME}}",
        "${${config.SLURM.ACCOUNT}:CANARY}",
    )[int(rng.integers(6))]
    overrides = ["config=vice/folder", f"config.SLURM.COMMENT='{value}'"]
    overrides += ["config.SLURM.ACCOUNT=oc.env"]
    return Action(
        run=lambda: compose(overrides),
        names=("config.SLURM.COMMENT",),
        environment={"CANARY": "secret", "NAME": "CANARY", "VICE_DATA": "data"},
    )


def _replayed(folder: Path, rng: Rng) -> Action:
    """Results that bring what is run when they are repeated."""
    from vice.experiments.repeat import repeat

    return doors.replay(folder, rng, lambda out: repeat(folder / "result", out))


def _ghostscript(folder: Path, rng: Rng) -> Action:
    """A program for Ghostscript that is called a photograph."""
    from PIL import EpsImagePlugin

    from vice.images import read_image

    tools = folder / "bin"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch '{folder / MARKER}'\n")
    (tools / "gs").chmod(0o755)
    path = folder / f"photo{('.jpg', '.png', '.tif')[int(rng.integers(3))]}"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
    )

    def run() -> Any:
        EpsImagePlugin.gs_binary = None  # whether Ghostscript is there is kept
        return read_image(path)

    paths = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    return Action(run=run, names=(path.name,), environment={"PATH": paths})


def _named_by_card(folder: Path, rng: Rng) -> Action:
    """A description of a run that names what is to be built."""
    name = ("os.system", "timm:os.system", "torch.hub.load", "builtins.eval")[int(rng.integers(4))]
    return doors.described({"backbone": name, "decoder": "fpn", "dim": 4}, folder)


def _weights_by_card(folder: Path, rng: Rng) -> Action:
    """A description of a run that names a file, which is a program."""
    (folder / "weights.pth").write_bytes(script())
    embedder = {**runs.EMBEDDER, "weights": str(folder / "weights.pth")}
    return doors.described(embedder, folder)


def _pipes(folder: Path, rng: Rng) -> Action:
    """What is no file at all."""
    path = folder / "model.pth"
    kind = int(rng.integers(3))
    if kind == 0:
        os.mkfifo(path)
    else:
        path.symlink_to(("/dev/zero", path.name)[kind - 1])
    door = list(doors.READERS.values())[int(rng.integers(len(doors.READERS)))]
    return Action(run=lambda: door(path), names=(path.name,))


def _sound(folder: Path, rng: Rng) -> Action:
    """Sound weights of each layout, under any name, linked or not."""
    from vice.models.foreign import read_tensors

    content = {"epoch": 3, "state_dict": {"a": torch.randn(3, 4), "b": torch.arange(5)}}
    data = doors.SOUND[int(rng.integers(len(doors.SOUND)))](content, folder)
    names = ("m.pth", "m.torch", "m.safetensors", "m.npz", "m", "m.tar", "data.pkl", "müller.pt")
    path = folder / names[int(rng.integers(len(names)))]
    path.write_bytes(data)
    if rng.integers(2):
        (folder / "link").symlink_to(path)
        path = folder / "link"

    def check(found: Any) -> str | None:
        found = found.get("state_dict", found)
        same = all(torch.equal(found[name], value) for name, value in content["state_dict"].items())
        return None if same else "other numbers"

    return Action(run=lambda: read_tensors(path), check=check)


_GENERATORS: dict[str, tuple[Expected, Callable[[Path, Rng], Action]]] = {
    "script": ("refused", _at_doors(lambda folder, rng: script())),
    "script-repacked": ("refused", _at_doors(script_repacked)),
    "script-dressed": ("refused", _at_doors(script_dressed)),
    "two-archives": ("refused", _at_doors(two_archives)),
    "package": ("refused", _at_doors(package)),
    "nested-archives": ("refused", _at_doors(nested_archives)),
    "program-by-any-marker": ("refused", _at_doors(other_markers)),
    "pickle-zip": ("refused", _at_doors(_pickle("zip"))),
    "pickle-stream": ("refused", _at_doors(_pickle("legacy"))),
    "pickle-alone": ("refused", _at_doors(_pickle("pickle"))),
    "pickle-tar": ("refused", _at_doors(_pickle("tar"))),
    "opcodes": ("either", opcode_pickle),
    "arrays-of-objects": ("refused", _objects),
    "objects-in-cache": ("worked", _in_cache),
    "yaml-tags": ("refused", _tagged_yaml),
    "yaml-targets": ("worked", _targets),
    "variables": ("refused", _environment),
    "results-replayed": ("refused", _replayed),
    "picture-for-ghostscript": ("refused", _ghostscript),
    "named-by-card": ("refused", _named_by_card),
    "weights-by-card": ("refused", _weights_by_card),
    "pipes-and-devices": ("refused", _pipes),
    "sound": ("worked", _sound),
}
FAMILY = Family(GROUP, _GENERATORS)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

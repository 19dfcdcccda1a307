"""Pickles with code in them, in every layout that PyTorch has had."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import MARKER
from tests.hostile.own_files import OWN

Rng = np.random.Generator
Make = Callable[[Path, Rng], Path]


class Payload:
    """Runs when it is unpickled by something careless."""

    def __init__(self, how: str, folder: Path) -> None:
        self.how, self.file = how, str(folder / MARKER)

    def __reduce__(self) -> Any:
        import os
        import subprocess

        calls: dict[str, Any] = {
            "system": (os.system, (f"touch '{self.file}'",)),
            "eval": (eval, (f"open({self.file!r}, 'w')",)),
            "exec": (exec, (f"open({self.file!r}, 'w')",)),
            "open": (open, (self.file, "w")),
            "popen": (subprocess.Popen, (["touch", self.file],)),
        }
        return calls[self.how]


def saved(content: Any, kind: str, path: Path) -> Path:
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind == "tar":
        _save_tar(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def _save_tar(content: Any, path: Path) -> None:
    """The layout of the very first versions of PyTorch."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            data = pickle.dumps(content)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _bomb(how: str, kind: str, name: str) -> Make:
    def make(folder: Path, rng: Rng) -> Path:
        payload = Payload(how, folder)
        return saved({"state_dict": payload, "epoch": payload}, kind, folder / name)

    return make


def _bomb_in_run(how: str, kind: str, name: str) -> Make:
    """Beside the description of a run, so that it is taken for VISSL's."""

    def make(folder: Path, rng: Rng) -> Path:
        run = runs.run_folder(folder)
        (run / OWN).rename(folder / "elsewhere")
        (run / "architecture.json").write_bytes((run / "vice.json").read_bytes())
        return _bomb(how, kind, name)(run, rng)

    return make


BOMBS = {
    f"{how}/{kind}{suffix}": _bomb(how, kind, f"model{suffix}")
    for how in ("system", "eval", "exec", "open", "popen")
    for kind in ("pickle", "zip", "legacy", "tar")
    for suffix in (".torch", ".pth")
} | {
    f"system/{kind}{suffix}": _bomb("system", kind, f"model{suffix}")
    for kind in ("pickle", "zip")
    for suffix in (".safetensors", ".pt", ".bin", ".npz", ".h5", ".ckpt", "")
}
BOMBS_IN_RUN = {
    f"{how}/{kind}": _bomb_in_run(how, kind, "model_phase0.torch")
    for how in ("system", "eval")
    for kind in ("pickle", "zip", "legacy", "tar")
}

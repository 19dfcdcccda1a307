"""Provenance of a result: versions of packages, and digests of files and weights."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from vice._version import __version__
from vice.runtime.regular_file import open_regular

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "faiss-cpu",
    "faiss-gpu",
    "vissl",
    "mmsegmentation",
    "onedl-mmsegmentation",
    "mmengine",
    "onedl-mmengine",
)


#: What earlier versions had for every module without parameters and buffers.
_OF_NOTHING = hashlib.sha256().hexdigest()


def digest(module: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and values of a module's parameters and buffers.

    Of one that has none, of its code and constants if it is TorchScript (freezing makes constants
    of weights), else of what its innermost modules are called.
    """
    state = {name: _as_tensor(value) for name, value in module.state_dict().items()}
    if state:
        return digest_tensors(state)
    parts = list(module.modules())
    script = next((part for part in parts if isinstance(part, torch.jit.ScriptModule)), None)
    if script is not None:
        nodes = script.graph.findAllNodes("prim::Constant")
        values = [node.output().toIValue() for node in nodes]
        constants = {str(i): value for i, value in enumerate(values) if isinstance(value, Tensor)}
        return digest_tensors(constants, str(script.code))
    classes = {type(part) for part in parts if not any(True for _ in part.children())}
    return digest_tensors({}, " ".join(sorted(f"{c.__module__}.{c.__qualname__}" for c in classes)))


def _as_tensor(value: object) -> Tensor:
    """An entry of a state; quantized layers have tuples of tensors there, and other things."""
    if isinstance(value, Tensor):
        return value.dequantize() if value.is_quantized else value
    if isinstance(value, tuple):
        value = [digest_tensors({"": _as_tensor(each)}) for each in value]
    return torch.frombuffer(bytearray(repr(value).encode()), dtype=torch.uint8)


def known_digest(digest: object) -> str | None:
    """A digest that was written down; None where it tells no model from another."""
    return str(digest) if digest and digest != _OF_NOTHING else None


def digest_tensors(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of the names, types, shapes and values of tensors, and of a text in front of them."""
    sha = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        array = value.detach().cpu().contiguous()
        sha.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        sha.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: It cannot be read.
    """
    sha = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(2**20):
            sha.update(piece)
    return sha.hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the bytes of several files, in their order; their names have no part in it.

    Raises:
        OSError: One cannot be read.
    """
    return hashlib.sha256("".join(map(digest_file, paths)).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of ViCE and of the installed packages that results depend on.

    Returns:
        Name to version; packages that are not installed are left out.
    """
    installed = {"python": platform.python_version(), "vice": __version__}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed

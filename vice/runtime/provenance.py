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

    Of one that has none, of what its innermost modules are called.
    """
    parts = list(module.modules())
    scripts = [part for part in parts if isinstance(part, torch.jit.ScriptModule)]
    # Not tensors: what quantized layers keep packed.
    state = {name: _as_tensor(value) for name, value in module.state_dict().items()}
    if state:
        return digest_tensors(state)
    if scripts:
        # Freezing has made constants of its weights.
        sha = hashlib.sha256()
        for script in scripts[:1]:
            sha.update(str(script.code).encode())
            for constant in script.graph.findAllNodes("prim::Constant"):
                if isinstance(value := constant.output().toIValue(), Tensor):
                    sha.update(digest_tensors({"": value}).encode())
        return sha.hexdigest()
    classes = {type(part) for part in parts if not any(True for _ in part.children())}
    return digest_tensors({}, " ".join(sorted(f"{c.__module__}.{c.__qualname__}" for c in classes)))


def _as_tensor(value: object) -> Tensor:
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

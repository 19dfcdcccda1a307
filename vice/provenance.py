"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import vice

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


def versions() -> dict[str, str]:
    """Versions of Python, of ViCE and of the installed packages that results depend on.

    Returns:
        Name to version; packages that are not installed are left out.
    """
    found = {"python": platform.python_version(), "vice": vice.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

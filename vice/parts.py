"""Packages beside the core: what needs each, and the command that installs it.

Nothing is imported to see whether one is there, so that a command can say that it will need one
before it computes or writes anything.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vice.errors import MissingPart, brief

#: Part that ``vice install`` installs to the framework that it brings, and the module of that.
PARTS = {"training": ("VISSL", "vissl"), "scoring": ("MMSegmentation", "mmseg")}
#: Package to what is said where it is missing.
PACKAGES = {
    "faiss": "k-means needs FAISS: pip install faiss-cpu (or faiss-gpu, to fit on a GPU)",
    "scipy": "outlines, matchings and intervals of scores need SciPy: pip install scipy",
    "sklearn": "clusters=objects needs scikit-learn: pip install scikit-learn",
    "skimage": "the demo's pictures come with scikit-image, which is not installed: pip install "
    "scikit-image",
    "matplotlib": "curves of a training need Matplotlib: pip install matplotlib",
    "yaml": "train_config.yaml, dataset.yaml and tables need PyYAML: pip install pyyaml",
    "pycocotools": "the format of COCO needs pycocotools: pip install pycocotools",
    "zarr": "embeddings as zarr need zarr: pip install zarr, or take npz",
    "pyarrow": "embeddings as parquet need pyarrow: pip install pyarrow, or take npz",
}


def is_there(name: str) -> bool:
    """Whether a package can be imported, as far as can be told without doing so."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return find_spec(name) is not None


def check_packages(*names: str) -> None:
    """Sees whether packages are installed.

    Args:
        names: Keys of `PACKAGES`.

    Raises:
        MissingPart: One is not; says which command installs it.
    """
    for name in names:
        if not is_there(name):
            raise MissingPart(PACKAGES[name], name=name)


def package(name: str) -> Any:
    """Imports a package, or a module of it.

    Args:
        name: A key of `PACKAGES`, or a module below, such as ``scipy.sparse``.

    Raises:
        MissingPart: It is not installed, or does not work.
    """
    whole = name.partition(".")[0]
    check_packages(whole)
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPart(
            f"{PACKAGES[whole]} once more, it cannot be imported ({brief(error)})", name=whole
        ) from error


def check_part(part: str) -> None:
    """Sees whether the framework of a part is installed.

    Args:
        part: A key of `PARTS`.

    Raises:
        MissingPart: It is not; says which command installs it.
    """
    name = PARTS[part][1]
    if not is_there(name):
        raise lacking(part, ModuleNotFoundError(f"No module named {name!r}", name=name))


def lacking(part: str, error: ImportError) -> MissingPart:
    """What is said where a part is not installed, or not whole.

    Args:
        part: A key of `PARTS`.
        error: What came of importing what belongs to it.
    """
    return MissingPart(
        f"{part} needs {PARTS[part][0]} and what it imports ({error}); install the pinned set with "
        f"vice install {part}",
        name=error.name,
    )

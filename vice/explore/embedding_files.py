"""Embeddings of a folder's images as files: half precision, at the network's stride."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from vice.errors import UserError
from vice.explore.embedding_formats import PACKAGE_OF
from vice.models.load import is_spherical
from vice.parts import check_packages
from vice.predictor import Predictor
from vice.runtime.files import disk_errors, make_folder, replace_atomically, write_json

EMBEDDINGS, CARD = "embeddings", "card.json"
#: Names of what a file holds.
_VALUES, _SOURCE, _CARD = "embedding", "image", "card"


class _Form(NamedTuple):
    suffix: str
    package: str
    write: Callable[[Path, np.ndarray, str, str], None]
    source: Callable[[Path], str]


class EmbeddingFiles:
    """``NAME.npz``, ``NAME.zarr`` or ``NAME.parquet`` for each image, and a card of the model.

    Args:
        folder: Made if missing.
        form: A key of `FORMS`.
        predictor: The model that the embeddings are of.

    Raises:
        MissingPart: The package that the format needs is not installed.
    """

    def __init__(self, folder: Path, form: str, predictor: Predictor) -> None:
        self.folder, self.form = folder, FORMS[form]
        if self.form.package:
            check_packages(self.form.package)
        card: dict[str, Any] = {
            "model": predictor.name,
            "weights": predictor.weights,
            "dim": predictor.dim,
            "dtype": "float16",
            "axes": "dimension, row, column",
            "unit_length": is_spherical(predictor.embedder),
        }
        self._card = json.dumps(card)
        write_json(folder / CARD, card)

    def path(self, target: Path) -> Path:
        """The file of an image whose mask has this name."""
        return (self.folder / target).with_suffix(self.form.suffix)

    def holds(self, target: Path, source: str) -> bool:
        """Whether an image's file is there and whole.

        Args:
            target: Name of the image's mask.
            source: What tells the image from others; as it was given to `write`.
        """
        path = self.path(target)
        try:
            return path.exists() and self.form.source(path) == source
        # A file that is not whole, in the words of any library.
        except Exception:
            return False

    def write(self, target: Path, embedding: Tensor, source: str) -> Path:
        """Writes the embedding of an image.

        Args:
            target: Name of the image's mask.
            embedding: float32 (D, h, w).
            source: What tells the image from others.

        Returns:
            The file; of zarr a folder.

        Raises:
            UserError: The disk does not take it, or a value is beyond half precision.
        """
        values = embedding.numpy().astype(np.float16)
        if not np.isfinite(values).all():
            raise UserError(
                f"{target}: its embedding reaches {float(embedding.abs().max()):.3g}, and half "
                "precision 65504: scale the model's output down"
            )
        path = self.path(target)
        make_folder(path.parent)
        with disk_errors(path, any_os_error=True):
            self.form.write(path, values, source, self._card)
        return path


def _write_npz(path: Path, values: np.ndarray, source: str, card: str) -> None:
    content = {_VALUES: values, _SOURCE: np.array(source), _CARD: np.array(card)}

    def write(new: str) -> None:
        # A file that is open: by its name NumPy would add a suffix.
        with open(new, "wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]

    replace_atomically(path, write)


def _npz_source(path: Path) -> str:
    # Checksums of all members are looked at: a file may have been cut off.
    with zipfile.ZipFile(path) as file:
        if file.testzip() is not None:
            return ""
    with np.load(path) as content:
        return str(content[_SOURCE])


def _write_parquet(path: Path, values: np.ndarray, source: str, card: str) -> None:
    import pyarrow
    from pyarrow import parquet

    rows, columns = np.indices(values.shape[1:]).reshape(2, -1)
    flat = np.ascontiguousarray(values.reshape(len(values), -1).T).ravel()
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), len(values))
    table = pyarrow.table(
        {"row": rows.astype(np.int32), "column": columns.astype(np.int32), "vector": vectors}
    ).replace_schema_metadata({_SOURCE: source, _CARD: card})
    replace_atomically(path, lambda new: parquet.write_table(table, new))


def _parquet_source(path: Path) -> str:
    from pyarrow import parquet

    # The footer is last: where it can be read, the file was written whole.
    return str((parquet.read_schema(path).metadata or {}).get(_SOURCE.encode(), b"").decode())


def _write_zarr(path: Path, values: np.ndarray, source: str, card: str) -> None:
    import zarr

    new = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    array = zarr.open_array(
        str(new), mode="w", shape=values.shape, chunks=values.shape, dtype=values.dtype
    )
    array[:] = values
    array.attrs.update({_SOURCE: source, _CARD: json.loads(card)})
    shutil.rmtree(path, ignore_errors=True)
    os.replace(new, path)


def _zarr_source(path: Path) -> str:
    import zarr

    return str(zarr.open_array(str(path), mode="r").attrs.get(_SOURCE, ""))


FORMS = {
    "npz": _Form(".npz", PACKAGE_OF["npz"], _write_npz, _npz_source),
    "zarr": _Form(".zarr", PACKAGE_OF["zarr"], _write_zarr, _zarr_source),
    "parquet": _Form(".parquet", PACKAGE_OF["parquet"], _write_parquet, _parquet_source),
}

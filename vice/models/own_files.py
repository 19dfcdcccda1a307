"""Safetensors files of ours: tensors, a header, and a checksum over both."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vice.errors import UserError
from vice.models.file_kinds import HEAD, is_pytorch, is_safetensors, other_kind
from vice.names import utf8_path
from vice.runtime.files import replace_atomically
from vice.runtime.provenance import digest_tensors
from vice.runtime.regular_file import open_regular

#: Where a header holds its own checksum.
CHECKSUM = "sha256"


def checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors and a header without its own checksum, hexadecimal."""
    rest = {name: value for name, value in header.items() if name != CHECKSUM}
    return digest_tensors(tensors, json.dumps(rest, sort_keys=True))


def is_damaged(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a header's checksum is not that of its file; files of the first version have none."""
    return CHECKSUM in header and header[CHECKSUM] != checksum(header, tensors)


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Writes a file, atomically.

    Raises:
        UserError: The folder cannot be written or the disk is full; the old file is as it was.
    """
    from safetensors.torch import save

    # Atomic write: safetensors' writer takes UTF-8 names only, and leaves parts when it is killed.
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = save(whole, metadata=dict(metadata))
    replace_atomically(Path(path), lambda new: Path(new).write_bytes(data))


def reads_as_safetensors(path: str | Path) -> bool:
    """Whether a file is to be read as one of safetensors: by its content, or else by its name.

    Raises:
        UserError: It cannot be read.
    """
    head, length = _beginning(path)
    by_name = Path(path).suffix == ".safetensors" and not is_pytorch(head, length)
    return by_name or is_safetensors(head, length)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors.

    Raises:
        UserError: Not a whole one.
    """
    return _read(path, tensors=False)[0]


def read_safetensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file.

    Raises:
        UserError: Not a whole one.
    """
    return _read(path, tensors=True)


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor with a NaN or an infinity; None if there is none."""
    for name, value in tensors.items():
        # float8 has no check of its own; a double may be beyond the type it is used in.
        if not (value.float() if value.is_floating_point() else value).isfinite().all():
            return name
    return None


def _read(path: str | Path, *, tensors: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    head, length = _beginning(path)
    if kind := other_kind(head):
        raise UserError(f"{path} holds no weights: {kind}")
    if is_pytorch(head, length):
        raise UserError(
            f"{path} is a file of PyTorch and not of safetensors: give it the suffix .pth, or "
            "save its tensors with safetensors.torch.save_file"
        )
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as archive:
            names = archive.keys() if tensors else ()
            return archive.metadata() or {}, {n: archive.get_tensor(n) for n in names}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): copy or make it again"
        ) from error


def _beginning(path: str | Path) -> tuple[bytes, int]:
    """The first bytes of a file, and its length."""
    try:
        with open_regular(path) as file:
            return file.read(HEAD), file.seek(0, io.SEEK_END)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error

"""Archives with programs in them; each leaves the marker in the working folder when it runs."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile.case import MARKER, Action
from tests.hostile.payloads import Payload

Rng = np.random.Generator


class _Writes(torch.nn.Module):
    """Writes the marker when it is loaded, by what TorchScript itself offers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.zeros(3)

    @torch.jit.export
    def __getstate__(self):  # type: ignore[no-untyped-def]
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.weight = state[0]
        self.training = state[1]
        torch.save(self.weight, "code_ran")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


@cache
def script() -> bytes:
    """A TorchScript archive."""
    assert MARKER == "code_ran"
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(_Writes()), file)
    return file.getvalue()


def _state() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"layer1.0.conv1.weight": torch.zeros(2, 2)}}, file)
    return file.getvalue()


def _records(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return file.getvalue()


def script_repacked(folder: Path, rng: Rng) -> bytes:
    """TorchScript packed by another program: other folder, order, compression, comment."""
    records = _records(script())
    top = f"m{rng.integers(99)}"
    order = rng.permutation(len(records))
    names = list(records)
    moved = {f"{top}/{names[i].partition('/')[2]}": records[names[i]] for i in order}
    data = _packed(moved, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[int(rng.integers(2))])
    return data if rng.integers(2) else data[:-2] + struct.pack("<H", 4) + b"mine"


def script_dressed(folder: Path, rng: Rng) -> bytes:
    """TorchScript with the records of a state beside its own."""
    records, top = _records(script()), next(iter(_records(script()))).partition("/")[0]
    for name, data in _records(_state()).items():
        records.setdefault(f"{top}/{name.partition('/')[2]}", data)
    records[f"{top}/byteorder"] = b"little"
    return _packed(records)


def two_archives(folder: Path, rng: Rng) -> bytes:
    """Two archives in one file, each found by some reader."""
    parts = [_state(), script()]
    if rng.integers(2):
        return parts[0] + parts[1]
    # A file within the comment of another.
    short = parts[1][: 2**16 - 1]
    return parts[0][:-2] + struct.pack("<H", len(short)) + short


@cache
def _package() -> bytes:
    from torch.package import PackageExporter

    file = io.BytesIO()
    with PackageExporter(file) as exporter:
        exporter.save_source_string("mine", f"open({MARKER!r}, 'w')\nvalue = 3\n")
        exporter.save_pickle("model", "model.pkl", {"weight": torch.zeros(2)})
    return file.getvalue()


def package(folder: Path, rng: Rng) -> bytes:
    """What `torch.package` writes, as it is or packed anew."""
    return _packed(_records(_package())) if rng.integers(2) else _package()


def nested_archives(folder: Path, rng: Rng) -> bytes:
    """Archives as records of archives, down to a program."""
    data = script()
    names = ("model.pth", "archive/data.pt", "data/0", "archive/data.pkl", "code.zip")
    for _ in range(int(rng.integers(1, 4))):
        data = _packed({names[int(rng.integers(len(names)))]: data})
    return data


def other_markers(folder: Path, rng: Rng) -> bytes:
    """A state with one more record, by which PyTorch takes it for a program."""
    records = _records(_state())
    top = next(iter(records)).partition("/")[0]
    more = ("constants.pkl", "code/__torch__.py", "bytecode.pkl", ".data/extern_modules")
    name = more[int(rng.integers(len(more)))]
    content = pickle.dumps(Payload("open", folder)) if name.endswith("pkl") else b""
    return _packed({**records, f"{top}/{name}": content})


def _reduce(folder: Path) -> bytes:
    path = str(folder / MARKER).encode()
    return b"cposix\nsystem\n(Vtouch '" + path + b"'\ntR."


def _inst(folder: Path) -> bytes:
    return b"(Vtouch '" + str(folder / MARKER).encode() + b"'\niposix\nsystem\n."


def _obj(folder: Path) -> bytes:
    return b"(cposix\nsystem\nVtouch '" + str(folder / MARKER).encode() + b"'\no."


def _newobj(folder: Path) -> bytes:
    path = str(folder / "script.pt").encode()
    return b"\x80\x02ctorch.jit\nload\n(V" + path + b"\nt\x81."


def _by_torch(name: bytes) -> Callable[[Path], bytes]:
    """Allowed to a careless allow-list: PyTorch's own functions that load and run."""

    def make(folder: Path) -> bytes:
        path = str(folder / "script.pt").encode()
        return b"c" + name + b"\n(V" + path + b"\ntR."

    return make


def _build(folder: Path) -> bytes:
    """State that puts a function in the place of a method."""
    return (
        b"\x80\x02ccollections\nOrderedDict\n)R}(X\x05\x00\x00\x00itemscposix\nsystem\n"
        b"X\x04\x00\x00\x00keyscposix\nsystem\nub."
    )


def _dunder(folder: Path) -> bytes:
    """A function reached through attributes of an allowed one."""
    return b"\x80\x04\x8c\x0ctorch._utils\x8c\x1a_rebuild_tensor_v2.__globals__\x93\x8c\x02os\x85R."


def _appended(folder: Path) -> bytes:
    return b"\x80\x02ccollections\ndeque\n)R(Vtouch\ne."


def _deep(folder: Path) -> bytes:
    """A key that is a tuple in a tuple in a tuple ..., whose hash would exhaust the stack."""
    return b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns."


def _deep_set(folder: Path) -> bytes:
    return b"\x80\x02cbuiltins\nset\n]N" + b"\x85" * 100_000 + b"a\x85R."


def _memo(folder: Path) -> bytes:
    """Takes memory for 2**31 memo entries in a reader that believes the number."""
    return b"\x80\x02Nr\xff\xff\xff\x7f."


def _long(folder: Path) -> bytes:
    """A byte string that says it is longer than any memory."""
    return b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x."


def _extension(folder: Path) -> bytes:
    return b"\x80\x02\x82\x01."


_OPCODES: tuple[Callable[[Path], bytes], ...] = (
    _reduce, _inst, _obj, _newobj, _build, _dunder, _appended, _deep, _deep_set, _memo, _long,
    _extension, _by_torch(b"torch\nload"), _by_torch(b"torch.jit\nload"),
    _by_torch(b"runpy\nrun_path"), _by_torch(b"torch.package\nPackageImporter"),
)  # fmt: skip


def opcode_pickle(folder: Path, rng: Rng) -> Action:
    """Hand-written pickles, in an archive and in a stream; what can be read as data may be."""
    from vice.models.foreign import read_tensors

    (folder / "script.pt").write_bytes(script())
    data = _OPCODES[int(rng.integers(len(_OPCODES)))](folder)
    path = folder / "model.pth"
    if rng.integers(2):
        path.write_bytes(_packed({"m/data.pkl": data, "m/version": b"3\n"}))
    else:
        head = torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION
        parts = [*head, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]
        path.write_bytes(b"".join(map(pickle.dumps, parts)) + data + pickle.dumps([]))

    def check(found: Any) -> str | None:
        if isinstance(found, dict):
            list(found.items())
        return None

    return Action(run=lambda: read_tensors(path), names=(path.name,), check=check)

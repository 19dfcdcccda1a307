"""Hostile checkpoints: ours, VISSL's and those of other frameworks, some with code in them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import MARKER, Action, Case
from tests.hostile.damage import flip, spoil

Rng = np.random.Generator
Make = Callable[[Path, Rng], Path]
GROUP = "checkpoints"
OWN = "vice.safetensors"


def load(spec: str | Path) -> Any:
    """What every evaluation does with its first argument."""
    from vice.extractors import load_extractor

    return load_extractor(str(spec))


def _embeds(module: Any) -> str | None:
    """The model gives finite numbers for an image."""
    with torch.no_grad():
        found = module(torch.zeros(1, 3, 32, 32))
    if found.shape[:2] != (1, module.dim):
        return f"an embedding of shape {tuple(found.shape)}"
    return None if torch.isfinite(found).all() else "the embedding is not finite"


def _as_it_was(folder: Path) -> Callable[[Any], str | None]:
    """The model is the one that was saved, to the last bit."""
    sound = {name: value.clone() for name, value in load(folder).state_dict().items()}

    def check(module: Any) -> str | None:
        state = module.state_dict()
        same = sound.keys() == state.keys() and all(
            torch.equal(value, state[name]) for name, value in sound.items()
        )
        return None if same else "other weights than those that were saved"

    return check


def _named(make: Make, prefix: str, folder: Path, rng: Rng) -> Action:
    path = make(folder, rng)
    runs.labelled(folder / "data", rng)
    command = ("eval_linear.py", prefix + str(path), "--dataset", str(folder / "data"))
    return Action(
        run=lambda: load(prefix + str(path)),
        command=(*command, "--out", str(runs.earlier_results(folder))),
        names=(str(path), path.name, "architecture.json"),
        check=_embeds,
    )


def _own(change: Callable[[bytes, Rng], bytes], folder: Path, rng: Rng) -> Action:
    run = runs.run_folder(folder)
    check = _as_it_was(run)
    path = run / OWN
    path.write_bytes(change(path.read_bytes(), rng))
    return Action(run=lambda: load(run), names=(str(path),), check=check)


def _in_header(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, 8, 8 + struct.unpack("<Q", data[:8])[0])


def _in_data(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, 8 + struct.unpack("<Q", data[:8])[0])


def _in_length(data: bytes, rng: Rng) -> bytes:
    return flip(data, rng, 0, 8)


def _length(value: int) -> Callable[[bytes, Rng], bytes]:
    return lambda data, rng: struct.pack("<Q", value) + data[8:]


def _rewritten(change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> Make:
    """Our own file with another card and other tensors, written as safetensors should be."""

    def make(folder: Path, rng: Rng) -> Path:
        from safetensors import safe_open
        from safetensors.torch import save_file

        path = runs.run_folder(folder) / OWN
        with safe_open(path, framework="pt") as file:
            card = json.loads(file.metadata()["vice"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card.pop("sha256", None)
        changed = change(card, tensors)
        text = changed if isinstance(changed, str) else json.dumps(card)
        save_file(tensors, path, {"vice": text})
        return path

    return make


def _card(**values: Any) -> Make:
    return _rewritten(lambda card, tensors: card.update(values))


def _embedder(**values: Any) -> Make:
    return _rewritten(lambda card, tensors: card["embedder"].update(values))


def _some(change: Callable[[dict[str, torch.Tensor], str], object]) -> Make:
    return _rewritten(lambda card, tensors: change(tensors, min(tensors)))


_CARDS: dict[str, Make] = {
    "format-of-the-future": _card(format=99),
    "format-a-list": _card(format=[1]),
    "no-architecture": _rewritten(lambda card, tensors: card.pop("embedder") is None),
    "architecture-a-list": _card(embedder=[1, 2]),
    "architecture-null": _card(embedder=None),
    "unknown-backbone": _embedder(backbone="os.system"),
    "backbone-a-number": _embedder(backbone=3),
    "unknown-option": _embedder(colour="blue"),
    "dim-of-text": _embedder(dim="4"),
    "dim-negative": _embedder(dim=-4),
    "dim-huge": _embedder(dim=10**12),
    "dim-other": _embedder(dim=5),
    "stages-nine": _embedder(stages=9),
    "stages-other": _embedder(stages=3),
    "download": _embedder(weights="http://localhost:9/x"),
    "card-a-list": _rewritten(lambda card, tensors: "[1]"),
    "card-a-number": _rewritten(lambda card, tensors: "3"),
    "card-no-json": _rewritten(lambda card, tensors: "{"),
    "card-nan": _rewritten(lambda card, tensors: '{"format": NaN}'),
    "card-deep": _rewritten(lambda card, tensors: "[" * 100_000),
    "meta-a-list": _card(meta=[1], format=[]),
    "missing-tensor": _some(lambda tensors, name: tensors.pop(name) is None),
    "extra-tensor": _some(lambda tensors, name: tensors.update({"embedder.x": torch.zeros(2)})),
    "wrong-shape": _some(lambda tensors, name: tensors.update({name: torch.zeros(1, 2)})),
    "nan": _some(lambda tensors, name: tensors[name].fill_(float("nan")) is None),
    "infinite": _some(lambda tensors, name: tensors[name].fill_(float("inf")) is None),
    "prototypes-a-vector": _some(lambda t, name: t.update({"prototypes.weight": torch.zeros(3)})),
    "prototypes-too-wide": _some(lambda t, name: t.update({"prototypes.weight": torch.ones(3, 9)})),
    "prototypes-none": _some(lambda t, name: t.update({"prototypes.weight": torch.ones(0, 4)})),
    "complex": _some(lambda t, name: t.update({name: t[name].to(torch.complex64)})),
    "whole-numbers": _some(lambda t, name: t.update({name: t[name].to(torch.int64)})),
}  # fmt: skip


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


def _saved(content: Any, kind: str, path: Path) -> Path:
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
        return _saved({"state_dict": payload, "epoch": payload}, kind, folder / name)

    return make


def _bomb_in_run(how: str, kind: str, name: str) -> Make:
    """Beside the description of a run, so that it is taken for VISSL's."""

    def make(folder: Path, rng: Rng) -> Path:
        run = runs.run_folder(folder)
        (run / OWN).rename(folder / "elsewhere")
        (run / "architecture.json").write_bytes((run / "vice.json").read_bytes())
        return _bomb(how, kind, name)(run, rng)

    return make


def _bomb_beside(folder: Path, rng: Rng) -> Path:
    """A payload and a sound ResNet in one file: what can be read as data is read."""
    content = {"model": _resnet(), "bomb": Payload("system", folder)}
    return _saved(content, "zip", folder / "model.pth")


_BOMBS = {
    f"{how}/{kind}{suffix}": _bomb(how, kind, f"model{suffix}")
    for how in ("system", "eval", "exec", "open", "popen")
    for kind in ("pickle", "zip", "legacy", "tar")
    for suffix in (".torch", ".pth")
} | {
    f"system/{kind}{suffix}": _bomb("system", kind, f"model{suffix}")
    for kind in ("pickle", "zip")
    for suffix in (".safetensors", ".pt", ".bin", ".npz", ".h5", ".ckpt", "")
}
_BOMBS_IN_RUN = {
    f"{how}/{kind}": _bomb_in_run(how, kind, "model_phase0.torch")
    for how in ("system", "eval")
    for kind in ("pickle", "zip", "legacy", "tar")
}


@cache
def _weights() -> dict[str, torch.Tensor]:
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(torchvision.models.resnet18(weights=None).state_dict())


def _resnet(prefix: str = "", *, without: str = "", **more: torch.Tensor) -> dict[str, Any]:
    found = {prefix + k: v for k, v in _weights().items() if not without or without not in k}
    return OrderedDict({**found, **more})


def _foreign(content: Callable[[], Any], name: str = "model.pth", kind: str = "zip") -> Make:
    return lambda folder, rng: _saved(content(), kind, folder / name)


def _nested(depth: int) -> Any:
    content: Any = _resnet()
    for _ in range(depth):
        content = {"inner": content}
    return content


def _cycle() -> Any:
    content: dict[str, Any] = {"a": {}}
    content["a"]["back"] = content
    return content


_LIKE_TORCHVISION: dict[str, Callable[[], Any]] = {
    "torchvision": _resnet,
    "moco": lambda: {"epoch": 1, "state_dict": _resnet("module.encoder_q.")},
    "dino": lambda: {"student": {"a": 1}, "teacher": _resnet("backbone.")},
    "two-of-them": lambda: {"student": _resnet("module."), "teacher": _resnet("module.")},
    "extra-keys": lambda: _resnet(**{"projector.0.weight": torch.zeros(4, 4)}),
    "no-classifier": lambda: _resnet(without="fc."),
    "half": lambda: {k: v.half() for k, v in _resnet().items()},
    "nested": lambda: _nested(20),
    "nested-deep": lambda: _nested(400),
}
_UNLIKE: dict[str, Callable[[], Any]] = {
    "missing-keys": lambda: _resnet(without="layer3.1.bn2"),
    "missing-stage": lambda: _resnet(without="layer4"),
    "one-key": lambda: {"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)},
    "wrong-shapes": lambda: {k: torch.zeros(3) for k in _weights()},
    "vit": lambda: {"cls_token": torch.zeros(1, 1, 8), "blocks.0.attn.qkv.weight": torch.zeros(8)},
    "no-tensors": lambda: {k: [1.0] for k in _weights()},
    "empty-dict": dict,
    "a-tensor": lambda: torch.zeros(3),
    "a-list": lambda: [_resnet()],
    "a-number": lambda: 3,
    "nothing": lambda: None,
    "keys-of-numbers": lambda: {1: torch.zeros(1), 2: {3: torch.zeros(1)}},
    "cycle": _cycle,
    "nan": lambda: {k: v * float("nan") for k, v in _resnet().items()},
}


def _vissl(trunk: Any, heads: Any, card: str | None) -> Make:
    def make(folder: Path, rng: Rng) -> Path:
        run = runs.run_folder(folder)
        text = (run / "vice.json").read_text() if card is None else card
        (run / OWN).rename(folder / "elsewhere")
        (run / "architecture.json").write_text(text)
        model = {"trunk": trunk, "heads": heads}
        content = {"classy_state_dict": {"base_model": {"model": model}}}
        return _saved(content, "zip", run / "model_phase0.torch")

    return make


_VISSL: dict[str, Make] = {
    "no-trunk": _vissl({}, {}, None),
    "trunk-a-list": _vissl([1], {}, None),
    "trunk-null": _vissl(None, None, None),
    "names-of-numbers": _vissl({1: torch.zeros(1)}, {2: torch.zeros(1)}, None),
    "prototypes-of-text": _vissl({}, {"prototypes.weight": "text"}, None),
    "card-empty": _vissl({}, {}, ""),
    "card-a-list": _vissl({}, {}, "[1]"),
    "card-without": _vissl({}, {}, "{}"),
    "card-binary": _vissl(
        {}, {}, "\x00\udcff".encode("utf-8", "surrogateescape").decode("latin-1")
    ),
}


def _bytes(data: bytes | Callable[[Rng], bytes], name: str) -> Make:
    def make(folder: Path, rng: Rng) -> Path:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data(rng))
        return path

    return make


def _npz(rng: Rng) -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=rng.normal(size=(3, 3)))
    return file.getvalue()


def _objects(folder: Path, rng: Rng) -> Path:
    np.save(folder / "model.npy", np.array([Payload("system", folder)], object), allow_pickle=True)
    return (folder / "model.npy").rename(folder / "model.pth")


def _zip_of_paths(folder: Path, rng: Rng) -> Path:
    with zipfile.ZipFile(folder / "model.pth", "w") as archive:
        archive.writestr("../../code_ran", "x")
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return folder / "model.pth"


def _folder(folder: Path, rng: Rng) -> Path:
    (folder / "model.pth").mkdir()
    return folder / "model.pth"


_OTHERS: dict[str, Make] = {
    "empty": _bytes(b"", "model.pth"),
    "empty-safetensors": _bytes(b"", OWN),
    "text": _bytes(b"weights, please\n", "model.torch"),
    "lfs-pointer": _bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", OWN),
    "html": _bytes(b"<html>404</html>", "model.pth"),
    "zeros": _bytes(bytes(10_000), "model.pth"),
    "npz": _bytes(_npz, "model.pth"),
    "npy-of-objects": _objects,
    "h5": _bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000), "model.h5"),
    "onnx": _bytes(b"\x08\x07\x12\x07pytorch\x1a\x031.9:\x80\x01", "model.onnx"),
    "tensorflow": _bytes(b"\x0a\x13saved_model" + bytes(100), "saved_model.pb"),
    "gzip": _bytes(b"\x1f\x8b\x08" + bytes(50), "model.pth"),
    "zip-of-paths": _zip_of_paths,
    "folder": _folder,
    "missing": lambda folder, rng: folder / "none.pth",
    "name-too-long": lambda folder, rng: folder / ("n" * 3000),
}


def _spoilt_foreign(folder: Path, rng: Rng) -> Path:
    kind = ("zip", "legacy", "pickle")[int(rng.integers(3))]
    small = {name: value[:2] for name, value in _weights().items() if value.ndim}
    path = _saved({"state_dict": small}, kind, folder / "model.pth")
    path.write_bytes(spoil(path.read_bytes(), rng))
    return path


def _centroids(change: Callable[[bytes, Rng], bytes], folder: Path, rng: Rng) -> Action:
    from vice.centroids import Centroids

    path = folder / "centroids_3.safetensors"
    vectors = torch.eye(3, 4)
    Centroids(vectors, True, [1.0, 2.0], 7).save(path)
    path.write_bytes(change(path.read_bytes(), rng))

    def check(found: Any) -> str | None:
        return None if torch.equal(found.vectors, vectors) else "other centroids than were saved"

    return Action(run=lambda: Centroids.load(path), names=(str(path),), check=check)


def _centroid_card(name: str, value: str | None) -> Callable[[bytes, Rng], bytes]:
    def change(data: bytes, rng: Rng) -> bytes:
        from safetensors.torch import load, save

        size = struct.unpack("<Q", data[:8])[0]
        meta = json.loads(data[8 : 8 + size])["__metadata__"]
        meta.pop("sha256", None)
        meta.pop(name)
        return save(load(data), {**meta, **({} if value is None else {name: value})})

    return change


def _centroid_tensor(tensor: torch.Tensor) -> Callable[[bytes, Rng], bytes]:
    def change(data: bytes, rng: Rng) -> bytes:
        from safetensors.torch import save

        size = struct.unpack("<Q", data[:8])[0]
        meta = json.loads(data[8 : 8 + size])["__metadata__"]
        meta.pop("sha256", None)
        return save({"vectors": tensor}, meta)

    return change


_CENTROIDS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "format": _centroid_card("format", "vice-centroids-9"),
    "no-seed": _centroid_card("seed", None),
    "seed-no-json": _centroid_card("seed", "{"),
    "spherical-text": _centroid_card("spherical", '"yes"'),
    "objective-number": _centroid_card("objective", "3"),
    "a-vector": _centroid_tensor(torch.zeros(4)),
    "nan": _centroid_tensor(torch.full((3, 4), float("nan"))),
    "none": _centroid_tensor(torch.zeros(0, 4)),
    "whole-numbers": _centroid_tensor(torch.zeros(3, 4, dtype=torch.int64)),
}
_PARTS = {"header": _in_header, "data": _in_data, "length": _in_length, "any": spoil}
_HUGE = {f"length-{n}": _length(n) for n in (0, 1, 10**9, 2**40, 2**63 - 1, 2**64 - 1)}

FIXED = [
    Case(GROUP, "own/as-it-is", partial(_own, lambda data, rng: data), "worked"),
    *(Case(GROUP, f"own/{name}", partial(_own, change), "refused") for name, change in _HUGE.items()),
    *(Case(GROUP, f"card/{name}", partial(_named, make, ""), "refused") for name, make in _CARDS.items()),
    *(Case(GROUP, f"bomb/{name}", partial(_named, make, ""), "refused") for name, make in _BOMBS.items()),
    *(Case(GROUP, f"bomb-in-run/{name}", partial(_named, make, ""), "refused") for name, make in _BOMBS_IN_RUN.items()),
    *(Case(GROUP, f"bomb-for-timm/{name}", partial(_named, _BOMBS[name], "timm:resnet10t@"), "refused") for name in ("system/pickle.pth", "system/zip.pth", "system/legacy.pth", "system/tar.pth", "system/pickle.bin", "system/pickle.safetensors")),
    *(Case(GROUP, f"bomb-for-torchvision/{name}", partial(_named, _BOMBS[name], "torchvision:resnet18@"), "refused") for name in ("system/pickle.pth", "system/zip.pth")),
    Case(GROUP, "bomb/beside-weights", partial(_named, _bomb_beside, ""), "worked"),
    *(Case(GROUP, f"like/{name}", partial(_named, _foreign(make), ""), "worked") for name, make in _LIKE_TORCHVISION.items()),
    *(Case(GROUP, f"unlike/{name}", partial(_named, _foreign(make), ""), "refused") for name, make in _UNLIKE.items()),
    *(Case(GROUP, f"vissl/{name}", partial(_named, make, ""), "refused") for name, make in _VISSL.items()),
    *(Case(GROUP, f"other/{name}", partial(_named, make, ""), "refused") for name, make in _OTHERS.items()),
    *(Case(GROUP, f"other/{name}/timm", partial(_named, _OTHERS[name], "timm:resnet10t@"), "refused") for name in ("empty", "text", "npz", "h5", "folder", "missing")),
    *(Case(GROUP, f"centroids/{name}", partial(_centroids, change), "refused") for name, change in _CENTROIDS.items()),
    Case(GROUP, "tool/bomb", partial(_named, _BOMBS["system/pickle.pth"], ""), "refused", process=True),
    Case(GROUP, "tool/own", partial(_named, _CARDS["dim-other"], ""), "refused", process=True),
]  # fmt: skip


def drawn(number: int) -> Case:
    """Spoilt bytes of our own files, of centroids, and of PyTorch's."""
    if number % 5 == 4:
        return Case(
            GROUP, f"spoilt/foreign/{number}", partial(_named, _spoilt_foreign, ""), "refused"
        )
    part = list(_PARTS)[number % 4]
    make = _centroids if number % 5 == 3 else _own
    kind = "centroids" if make is _centroids else "own"
    return Case(GROUP, f"spoilt/{kind}/{part}/{number}", partial(make, _PARTS[part]))

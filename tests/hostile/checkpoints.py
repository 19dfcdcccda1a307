"""Hostile checkpoints: ours, VISSL's and those of other frameworks, some with code in them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import Action, Case
from tests.hostile.damage import spoil
from tests.hostile.own_files import CARDS, CENTROIDS, LENGTHS, OWN, PARTS, centroids, load, own
from tests.hostile.payloads import BOMBS, BOMBS_IN_RUN, Payload, saved

Rng = np.random.Generator
Make = Callable[[Path, Rng], Path]
GROUP = "checkpoints"
SHARE = 0.17


def _embeds(module: Any) -> str | None:
    """The model gives finite numbers for an image."""
    with torch.no_grad():
        found = module(torch.zeros(1, 3, 32, 32))
    if found.shape[:2] != (1, module.dim):
        return f"an embedding of shape {tuple(found.shape)}"
    return None if torch.isfinite(found).all() else "the embedding is not finite"


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


@cache
def _weights() -> dict[str, torch.Tensor]:
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(torchvision.models.resnet18(weights=None).state_dict())


def _resnet(prefix: str = "", *, without: str = "", **more: torch.Tensor) -> dict[str, Any]:
    found = {prefix + k: v for k, v in _weights().items() if not without or without not in k}
    return OrderedDict({**found, **more})


def _bomb_beside(folder: Path, rng: Rng) -> Path:
    """A payload and a sound ResNet in one file: what can be read as data is read."""
    content = {"model": _resnet(), "bomb": Payload("system", folder)}
    return saved(content, "zip", folder / "model.pth")


def _foreign(content: Callable[[], Any], name: str = "model.pth", kind: str = "zip") -> Make:
    return lambda folder, rng: saved(content(), kind, folder / name)


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
        return saved(content, "zip", run / "model_phase0.torch")

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
    path = saved({"state_dict": small}, kind, folder / "model.pth")
    path.write_bytes(spoil(path.read_bytes(), rng))
    return path


FIXED = [
    Case(GROUP, "own/as-it-is", partial(own, lambda data, rng: data), "worked"),
    *(
        Case(GROUP, f"own/{name}", partial(own, change), "refused")
        for name, change in LENGTHS.items()
    ),
    *(
        Case(GROUP, f"card/{name}", partial(_named, make, ""), "refused")
        for name, make in CARDS.items()
    ),
    *(
        Case(GROUP, f"bomb/{name}", partial(_named, make, ""), "refused")
        for name, make in BOMBS.items()
    ),
    *(
        Case(GROUP, f"bomb-in-run/{name}", partial(_named, make, ""), "refused")
        for name, make in BOMBS_IN_RUN.items()
    ),
    *(
        Case(
            GROUP,
            f"bomb-for-timm/{name}",
            partial(_named, BOMBS[name], "timm:resnet10t@"),
            "refused",
        )
        for name in (
            "system/pickle.pth",
            "system/zip.pth",
            "system/legacy.pth",
            "system/tar.pth",
            "system/pickle.bin",
            "system/pickle.safetensors",
        )
    ),
    *(
        Case(
            GROUP,
            f"bomb-for-torchvision/{name}",
            partial(_named, BOMBS[name], "torchvision:resnet18@"),
            "refused",
        )
        for name in ("system/pickle.pth", "system/zip.pth")
    ),
    Case(GROUP, "bomb/beside-weights", partial(_named, _bomb_beside, ""), "worked"),
    *(
        Case(GROUP, f"like/{name}", partial(_named, _foreign(make), ""), "worked")
        for name, make in _LIKE_TORCHVISION.items()
    ),
    *(
        Case(GROUP, f"unlike/{name}", partial(_named, _foreign(make), ""), "refused")
        for name, make in _UNLIKE.items()
    ),
    *(
        Case(GROUP, f"vissl/{name}", partial(_named, make, ""), "refused")
        for name, make in _VISSL.items()
    ),
    *(
        Case(GROUP, f"other/{name}", partial(_named, make, ""), "refused")
        for name, make in _OTHERS.items()
    ),
    *(
        Case(
            GROUP,
            f"other/{name}/timm",
            partial(_named, _OTHERS[name], "timm:resnet10t@"),
            "refused",
        )
        for name in ("empty", "text", "npz", "h5", "folder", "missing")
    ),
    *(
        Case(GROUP, f"centroids/{name}", partial(centroids, change), "refused")
        for name, change in CENTROIDS.items()
    ),
    Case(
        GROUP, "tool/bomb", partial(_named, BOMBS["system/pickle.pth"], ""), "refused", process=True
    ),
    Case(GROUP, "tool/own", partial(_named, CARDS["dim-other"], ""), "refused", process=True),
]


def drawn(number: int) -> Case:
    """Spoilt bytes of our own files, of centroids, and of PyTorch's."""
    if number % 5 == 4:
        return Case(
            GROUP, f"spoilt/foreign/{number}", partial(_named, _spoilt_foreign, ""), "refused"
        )
    part = list(PARTS)[number % 4]
    make = centroids if number % 5 == 3 else own
    kind = "centroids" if make is centroids else "own"
    return Case(GROUP, f"spoilt/{kind}/{part}/{number}", partial(make, PARTS[part]))

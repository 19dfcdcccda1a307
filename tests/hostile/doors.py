"""Every door through which a file of somebody else comes in, as a case goes through it."""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import MARKER, Action
from tests.hostile.own_files import OWN, load

Rng = np.random.Generator
Door = Callable[[bytes, Path, Rng], Action]
_NAMES = ("model.pth", "model.torch", "model.bin", "model.ckpt", "model", "model.pt", "a b.pth")


def _file(data: bytes, folder: Path, rng: Rng) -> Path:
    """Some name, perhaps a link to it, perhaps in another folder."""
    place = folder / ("", "deep/er")[int(rng.integers(2))]
    place.mkdir(parents=True, exist_ok=True)
    path = place / _NAMES[int(rng.integers(len(_NAMES)))]
    path.write_bytes(data)
    if rng.integers(4) == 0:
        (folder / "link.pth").symlink_to(path)
        path = folder / "link.pth"
    return path


def _spec(prefix: str) -> Door:
    def door(data: bytes, folder: Path, rng: Rng) -> Action:
        path = _file(data, folder, rng)
        return Action(run=lambda: load(prefix + str(path)), names=(path.name,))

    return door


def _vice_load(data: bytes, folder: Path, rng: Rng) -> Action:
    import vice

    path = _file(data, folder, rng)
    return Action(run=lambda: vice.load(path, device="cpu"), names=(path.name,))


def _own_name(data: bytes, folder: Path, rng: Rng) -> Action:
    import vice

    run = runs.run_folder(folder)
    (run / OWN).write_bytes(data)
    return Action(run=lambda: vice.load(run, device="cpu"), names=(OWN,))


def _bare(folder: Path) -> Path:
    run = runs.run_folder(folder)
    (run / OWN).rename(folder / "elsewhere")
    (run / "architecture.json").write_bytes((run / "vice.json").read_bytes())
    return run


def _state(data: bytes, folder: Path, rng: Rng) -> Action:
    import vice

    path = _bare(folder) / "model_phase0.torch"
    path.write_bytes(data)
    given = path if rng.integers(2) else path.parent
    return Action(run=lambda: vice.load(given, device="cpu"), names=(path.name,))


def _resumed(data: bytes, folder: Path, rng: Rng) -> Action:
    """What resuming looks at before VISSL does; setting aside what is damaged is its own test."""
    from vice.models.training_state import read_snapshot

    path = folder / "model_iteration5.torch"
    path.write_bytes(data)
    return Action(run=lambda: read_snapshot(path), names=(path.name,))


def _training_weights(data: bytes, folder: Path, rng: Rng) -> Action:
    from vice.models import build_embedder

    path = _file(data, folder, rng)
    options = {"backbone": "timm:resnet10t", "decoder": "fpn", "dim": 4, "weights": str(path)}
    return Action(run=lambda: build_embedder(**options), names=(path.name,))


def _vissl_weights(data: bytes, folder: Path, rng: Rng) -> Action:
    """VISSL's own key for a file of weights."""
    from vice.plugins.vissl.config.checks import check_values
    from vice.plugins.vissl.config.compose import compose

    path = folder / _NAMES[int(rng.integers(4))]
    path.write_bytes(data)
    key = f"config.MODEL.WEIGHTS_INIT.PARAMS_FILE={path}"
    return Action(
        run=lambda: check_values(compose(["config=vice/folder", key])), names=(path.name,)
    )


def _centroids(data: bytes, folder: Path, rng: Rng) -> Action:
    from vice.models.centroids import Centroids

    path = folder / "centroids_3.safetensors"
    path.write_bytes(data)
    return Action(run=lambda: Centroids.load(path), names=(path.name,))


def _downloads(data: bytes, folder: Path, rng: Rng) -> Action:
    """The file that torchvision's download would have left."""
    import torchvision

    name = torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    path = folder / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    spec = ("torchvision:resnet18", "imagenet:resnet18-fpn-4")[int(rng.integers(2))]
    return Action(
        run=lambda: load(spec), names=(path.name,), environment={"TORCH_HOME": str(folder)}
    )


def _region_map(data: bytes, folder: Path, rng: Rng) -> Action:
    from vice.superpixels.external import from_file

    path = folder / f"0{('.npz', '.npy', '.png')[int(rng.integers(3))]}"
    path.write_bytes(data)
    return Action(run=lambda: from_file(path, (4, 4)), names=(path.name,))


#: Name to how content comes in there; none of these may take a program.
DOORS: dict[str, Door] = {
    "vice.load": _vice_load,
    "vice.load of a run": _own_name,
    "vice.load of a state": _state,
    "spec": _spec(""),
    "spec random:PATH": _spec("random:"),
    "spec timm:NAME@FILE": _spec("timm:resnet10t@"),
    "spec torchvision:NAME@FILE": _spec("torchvision:resnet18@"),
    "weights of a training": _training_weights,
    "weights of VISSL": _vissl_weights,
    "resuming": _resumed,
    "centroids": _centroids,
    "torchvision's downloads": _downloads,
    "region maps": _region_map,
}


def _named_pipe_reader(name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        import vice
        from vice.models.foreign import read_tensors
        from vice.models.training_state import read_snapshot

        readers = {"load": vice.load, "tensors": read_tensors, "state": read_snapshot, "spec": load}
        return readers[name](path)

    return read


READERS = {name: _named_pipe_reader(name) for name in ("load", "tensors", "state", "spec")}


def described(embedder: dict[str, Any], folder: Path) -> Action:
    """A state whose ``architecture.json`` says this."""
    import vice

    run = _bare(folder)
    (run / "architecture.json").write_text(json.dumps({"embedder": embedder}))
    model = {"trunk": {}, "heads": {}}
    content = {"classy_state_dict": {"base_model": {"model": model}}, "iteration": 1}
    torch.save(content, run / "model_phase0.torch")
    return Action(run=lambda: vice.load(run, device="cpu"), names=(str(run), "weights.pth"))


def replay(folder: Path, rng: Rng, run: Callable[[Path], Any]) -> Action:
    """A result that names a callable, or options that are classes of anything."""
    from vice.evaluation.protocols import get_protocol

    # Another name each time: what was imported once is not run again.
    module = f"mine{rng.integers(10**12)}"
    (folder / f"{module}.py").write_text(f"open({str(folder / MARKER)!r}, 'w')\n")
    data = runs.labelled(folder / "data", rng)
    popen = {"type": "subprocess.Popen", "args": ["touch", str(folder / MARKER)]}
    kind = int(rng.integers(3))
    arguments: dict[str, Any] = {
        "spec": f"{module}:make" if kind == 0 else "lab",
        "dataset": str(data),
        "out_dir": "out",
        "protocol": _fields(get_protocol("native", "folder")),
        "data_root": None,
        "fit_dataset": None,
        "seed": 0,
        "device": "cpu",
        "options": ({}, {"model.backbone": popen}, {"custom_imports": {"imports": [module]}})[kind],
    }
    result = {"kind": "linear", "arguments": arguments, **_as_it_was(arguments)}
    (folder / "result").mkdir()
    (folder / "result" / "results.json").write_text(json.dumps(result))

    def act() -> Any:
        sys.path.insert(0, str(folder))
        try:
            return run(folder / "again")
        finally:
            sys.path.remove(str(folder))

    return Action(run=act, names=("--trust",))


def _as_it_was(arguments: dict[str, Any]) -> dict[str, Any]:
    """What is verified before a result is repeated, all of it right."""
    from vice.evaluation.protocols import from_dict
    from vice.evaluation.task import make_task
    from vice.plugins.mmseg.backbone import share_embedder

    protocol = from_dict(dict(arguments["protocol"]))
    names = ("spec", "dataset", "out_dir", "protocol", "data_root", "fit_dataset")
    fit, score = make_task(**{name: arguments[name] for name in names}).open()
    sums = {"fit": fit.checksum(protocol.fit_split), "score": score.checksum(protocol.score_split)}
    digest = share_embedder("lab", 0).digest
    return {
        "protocol": {"hash": protocol.hash},
        "classes": list(score.classes),
        "dataset": {"list_checksums": sums},
        "model": {"digest": digest},
    }


def _fields(protocol: Any) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(protocol)


def _saved(**options: Any) -> Callable[[Any, Path], bytes]:
    def make(content: Any, folder: Path) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    return make


def _repacked(content: Any, folder: Path) -> bytes:
    import zipfile

    source, file = io.BytesIO(_saved()(content, folder)), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def _safetensors(content: Any, folder: Path) -> bytes:
    from safetensors.torch import save

    return save(content["state_dict"])


def tar_of(tensors: dict[str, torch.Tensor]) -> bytes:
    """The layout of PyTorch 0.1, which no version writes any more: contiguous float or int64."""
    import pickle
    import tarfile

    storages, views, described = io.BytesIO(), io.BytesIO(), []
    pickle.dump(len(tensors), storages, 2)
    pickle.dump(len(tensors), views, 2)
    for key, (name, tensor) in enumerate(tensors.items(), start=1):
        kind = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage}[tensor.dtype]
        pickle.dump((key, "cpu", kind), storages, 2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
        pickle.dump((100 + key, key, None), views, 2)
        axes = (*tensor.shape, *tensor.stride(), 0)
        views.write(struct.pack(f"<ii{len(axes)}q", tensor.ndim, 0, *axes))
        described.append((name, str(100 + key)))
    pickle.dump([], storages, 2)
    # Protocol 0 by hand: a dict of persistent ids.
    text = b"(d" + b"".join(
        b"V" + name.encode() + b"\nP" + key.encode() + b"\ns" for name, key in described
    )
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in (
            ("storages", storages.getvalue()),
            ("tensors", views.getvalue()),
            ("pickle", text + b"."),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


SOUND: tuple[Callable[[Any, Path], bytes], ...] = (
    _saved(),
    _saved(pickle_protocol=4),
    _saved(_use_new_zipfile_serialization=False),
    _repacked,
    _safetensors,
    lambda content, folder: tar_of(content["state_dict"]),
)

"""Disks that fill, quotas, and limits on files, at everything that ViCE writes.

The limit on the size of files (``RLIMIT_FSIZE``) fails real writes half way; errors of the other
kinds come out of the calls that put a file in place.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import Action, Family, Make
from tests.hostile.names import compare_tool
from tests.hostile.pictures import encode, picture

Rng = np.random.Generator
GROUP = "full disks"
SHARE = 0.04
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def limit(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python would leave half a file of bytecode beside a module that is imported here.
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = kept


@contextlib.contextmanager
def failing(number: int) -> Iterator[None]:
    """New files can be written but not be put in place, and no folder be made."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with mock.patch("os.replace", fail), mock.patch("os.mkdir", fail):
        yield


def _trouble(rng: Rng, size: int) -> contextlib.AbstractContextManager[None]:
    if rng.random() < 0.6:
        return limit(int(rng.integers(1, size)))
    return failing(ERRORS[int(rng.integers(len(ERRORS)))])


def _refused(target: str, size: int, write: Callable[[Path, Rng], Any]) -> Make:
    """What must be written: one message that names the file, and the earlier one unharmed."""

    def make(folder: Path, rng: Rng) -> Action:
        out = runs.earlier_results(folder)
        if not (out / target).exists():
            (out / target).parent.mkdir(exist_ok=True)
            (out / target).write_bytes(b"earlier")
        trouble = _trouble(rng, size)

        def run() -> Any:
            with trouble:
                write(out, rng)

        return Action(run=run, names=(str(out / target),))

    return make


def _goes_on(do: Callable[[Path, Rng, Any], Callable[[], str | None]], size: int = 20) -> Make:
    """What training can do without for a while: it goes on, and nothing is missing later."""

    def make(folder: Path, rng: Rng) -> Action:
        return Action(
            run=lambda: do(folder, rng, _trouble(rng, size))(),
            check=lambda wrong: wrong,
            writes=(folder,),
        )

    return make


def _model() -> tuple[Any, Any]:
    from vice.models import Prototypes, seeded_embedder

    return seeded_embedder(1, **runs.EMBEDDER), Prototypes(4, 5)


def _save_run(out: Path, rng: Rng) -> None:
    from vice.models.checkpoint import save_run

    save_run(out, *_model())


def _save_centroids(out: Path, rng: Rng) -> None:
    from vice.models.centroids import Centroids

    Centroids(torch.randn(9, 4), False, 0.0, 0).save(out / "centroids_9.safetensors")


def _save_state(out: Path, rng: Rng) -> None:
    from vice.models.training_state import write_snapshot

    write_snapshot(out / "model_phase0.torch", {"iteration": 1, "x": torch.randn(5000)})


def _save_picture(out: Path, rng: Rng) -> None:
    from vice.visualize import save_png

    save_png(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), out / "samples.png")


def _save_confusion(out: Path, rng: Rng) -> None:
    from vice.visualize import plot_confusion

    plot_confusion(np.eye(2, dtype=int), ("a", "b"), out / "confusion.png")


def _save_curves(out: Path, rng: Rng) -> None:
    from vice.visualize import plot_curves

    plot_curves([{"loss": 1.0}], out / "curves.png")


def _save_report(out: Path, rng: Rng) -> None:
    from vice.experiments.demo.page import write_report

    write_report(out, {"title": "t"})


def _save_maps(out: Path, rng: Rng) -> None:
    from vice.plugins.mmseg.results import write_samples

    label = rng.integers(0, 2, (40, 40)).astype(np.uint8)
    sample = SimpleNamespace(
        name="a", image=np.zeros((8, 8, 3), np.uint8), label=label, predictions=[label]
    )
    mapping = {"linear": torch.arange(2)}
    write_samples(SimpleNamespace(samples=[sample]), SimpleNamespace(out_dir=out), mapping, 2)


def _save_subset(out: Path, rng: Rng) -> None:
    from vice.plugins.mmseg.subset_list import write_subset

    write_subset([f"image{n}" for n in range(99)], SimpleNamespace(out_dir=out))


def _save_results(out: Path, rng: Rng) -> None:
    from vice.runtime.files import write_json

    write_json(out / "results.json", {"scores": list(range(99))})


def _save_table(out: Path, rng: Rng) -> None:
    compare_tool([], str(out / "table.html"), to_html=lambda *_: "x" * 99)


def _unpack(out: Path, rng: Rng) -> None:
    from vice.datasets.archives import write_member

    archive = out.parent / "a.zip"
    if not archive.exists():
        raise AssertionError("no archive")
    with zipfile.ZipFile(archive) as opened, opened.open(opened.infolist()[0]) as reader:
        write_member(reader, out / "unpacked.jpg")


def _with_archive(make: Make) -> Make:
    def also(folder: Path, rng: Rng) -> Action:
        with zipfile.ZipFile(folder / "a.zip", "w") as archive:
            archive.writestr("x.jpg", bytes(5000))
        return make(folder, rng)

    return also


def _task(folder: Path, phase: int) -> Any:
    embedder, prototypes = _model()
    head = SimpleNamespace(prototypes=prototypes)
    method = SimpleNamespace(
        name="vice_swav", concepts=lambda head: head.prototypes.concepts(), provenance=dict
    )
    model = SimpleNamespace(trunk=SimpleNamespace(embedder=embedder), heads=[head])
    data = SimpleNamespace(data_objs=[SimpleNamespace(paths=["a.png"])])
    return SimpleNamespace(
        base_model=model,
        method=method,
        datasets={"train": data},
        iteration=3,
        train=True,
        train_phase_idx=phase,
        num_train_phases=3,
        config={"SEED_VALUE": 1, "VICE": {}, "OPTIMIZER": {"num_epochs": 3}},
    )


def _export(folder: Path, rng: Rng, trouble: Any) -> Callable[[], str | None]:
    def do() -> str | None:
        from vice.models.checkpoint import load_checkpoint
        from vice.plugins.vissl.hooks.run import ExportHook

        hook = ExportHook(str(folder))
        with trouble:
            hook.on_start(_task(folder, 0))
            hook.on_phase_end(_task(folder, 0))
        hook.on_phase_end(_task(folder, 1))
        if not (folder / "architecture.json").is_file():
            return "the architecture was not tried again"
        return None if load_checkpoint(folder).meta["epoch"] == 2 else "another export"

    return do


def _last_export(out: Path, rng: Rng) -> None:
    from vice.plugins.vissl.hooks.run import ExportHook

    ExportHook(str(out)).on_phase_end(_task(out, 2))


def _health(folder: Path, rng: Rng, trouble: Any) -> Callable[[], str | None]:
    begun = bool(rng.random() < 0.5)

    def do() -> str | None:
        from vice.runtime.health_log import HealthLog, read_health

        log = None
        if begun:
            log = HealthLog(folder)
            log.write({"iteration": 0})
        with trouble:
            log = log or HealthLog(folder)
            for number in range(1, 5):
                log.write({"iteration": number})
        log.write({"iteration": 5})
        lines = (folder / "health.jsonl").read_text().splitlines()
        found = [json.loads(line)["iteration"] for line in lines]
        expected = list(range(0 if begun else 1, 6))
        return None if found == expected == [r["iteration"] for r in read_health(folder)] else (
            f"iterations {found}"
        )  # fmt: skip

    return do


def _events(folder: Path, rng: Rng, trouble: Any) -> Callable[[], str | None]:
    def do() -> str | None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        from vice.runtime.event_log import EventLog

        with trouble:
            log = EventLog(str(folder / "tb_logs"), 0)
            log.add_scalar("a", 1.0, 0)
            log.add_image("b", np.zeros((8, 8, 3), np.uint8), 0, dataformats="HWC")
        log.add_scalar("a", 2.0, 1)
        log.flush()
        events = EventAccumulator(str(folder / "tb_logs"))
        events.Reload()
        return None if len(events.Scalars("a")) == 2 else "scalars are missing"

    return do


def _superpixels(folder: Path, rng: Rng, trouble: Any) -> Callable[[], str | None]:
    path = folder / "a.png"
    path.write_bytes(encode(picture(rng), "PNG"))

    def do() -> str | None:
        from vice.superpixels import Superpixels

        superpixels = Superpixels(cache_dir=folder / "cache")
        with trouble:
            _, first = superpixels.read(path, mode="none")
        if list((folder / "cache").rglob("*.tmp")):
            return "half a file is left"
        _, second = superpixels.read(path, mode="none")
        kept = list((folder / "cache").rglob("*.npz"))
        return None if np.array_equal(first, second) and kept else "no map was kept"

    return do


def _log(folder: Path, rng: Rng, trouble: Any) -> Callable[[], str | None]:
    del rng

    def do() -> str | None:
        from vice.runtime.log_streams import guard

        before, disabled = list(logging.root.handlers), logging.root.manager.disable
        stream = (folder / "log.txt").open("a")
        logging.root.handlers = [logging.StreamHandler(stream)]
        logging.disable(logging.NOTSET)
        try:
            guard(logging.root.handlers)
            with trouble:
                for number in range(40):
                    logging.getLogger("vice").warning("line %d of the log", number)
        finally:
            logging.root.handlers = before
            logging.disable(disabled)
            with contextlib.suppress(OSError):
                stream.close()
        return None

    return do


def _batch(folder: Path, rng: Rng, trouble: Any) -> Callable[[], str | None]:
    def do() -> str | None:
        from vice.errors import UserError
        from vice.plugins.vissl.hooks.finite import FiniteHook

        hook = FiniteHook(str(folder), 1)
        batch = SimpleNamespace(sample={"input": torch.randn(2, 3, 9, 9), "method": {}})
        try:
            with trouble:
                hook.skip(
                    SimpleNamespace(losses=[1.0], iteration=1, last_batch=batch), "the loss is nan"
                )
        except UserError as error:
            return None if str(error).startswith("the loss is nan") else f"said {error}"
        return "did not end"

    return do


FAMILY = Family(
    GROUP,
    {
        "export": ("worked", _goes_on(_export)),
        "last-export": ("refused", _refused("vice.safetensors", 4000, _last_export)),
        "save-run": ("refused", _refused("vice.safetensors", 4000, _save_run)),
        "centroids": ("refused", _refused("centroids_9.safetensors", 100, _save_centroids)),
        "state": ("refused", _refused("model_phase0.torch", 9000, _save_state)),
        "health": ("worked", _goes_on(_health)),
        "tensorboard": ("worked", _goes_on(_events)),
        "superpixels": ("worked", _goes_on(_superpixels, 100)),
        "log": ("worked", _goes_on(_log, 200)),
        "batch": ("worked", _goes_on(_batch)),
        "picture": ("refused", _refused("samples.png", 1000, _save_picture)),
        "confusion": ("refused", _refused("confusion.png", 1000, _save_confusion)),
        "curves": ("refused", _refused("curves.png", 1000, _save_curves)),
        "report": ("refused", _refused("report.html", 300, _save_report)),
        "maps": ("refused", _refused("maps/linear/a.png", 60, _save_maps)),
        "subset": ("refused", _refused("subset.txt", 100, _save_subset)),
        "results": ("refused", _refused("results.json", 100, _save_results)),
        "table": ("refused", _refused("table.html", 50, _save_table)),
        "unpacked": ("refused", _with_archive(_refused("unpacked.jpg", 4000, _unpack))),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

"""File names that are legal and odd: no UTF-8, control characters, quotes, long ones, accents."""

from __future__ import annotations

import io
import json
import logging
import os
import runpy
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import Action, Family, Make
from tests.hostile.pictures import encode, picture

Rng = np.random.Generator
GROUP = "file names"
SHARE = 0.04


def _latin(rng: Rng) -> bytes:
    return b"stra\xdfe" + bytes(rng.integers(0xC0, 0xFF, 3).astype(np.uint8))


def _control(rng: Rng) -> bytes:
    marks = [b"\n", b"\t", b"\r", b"\x1b[31m", b"\x07", b"\x0b", b"\x7f", "\u2028".encode()]
    return b"a" + marks[int(rng.integers(len(marks)))] + b"b"


def _quoted(rng: Rng) -> bytes:
    marks = [b"'", b'"', b"`", b"$a$b_{", b"%s{0}", b"<b>&amp;", b"|", b"#", b"\\n", b"a,b=c"]
    return b"q" + marks[int(rng.integers(len(marks)))] + b"q"


def _unicode(rng: Rng) -> bytes:
    words = ["照片", "e\u0301", "\u00e9", "😀", "👩\u200d🚀", "\u202eabc", "\u3000x", "\xa0y"]
    return words[int(rng.integers(len(words)))].encode()


def _long(rng: Rng) -> bytes:
    return b"l" * int(rng.integers(235, 250))


def _spaced(rng: Rng) -> bytes:
    return [b"-rf", b"--help", b" lead", b"tail ", b"two  spaces", b"~", b"..."][rng.integers(7)]


def _mixed(rng: Rng) -> bytes:
    return _latin(rng) + _control(rng) + _quoted(rng) + b"\xff\xfe"


KINDS = (_latin, _control, _quoted, _unicode, _long, _spaced, _mixed, _latin)


def name(rng: Rng) -> str:
    """A stem that a file may have."""
    return os.fsdecode(KINDS[int(rng.integers(len(KINDS)))](rng))


def _odd_images(folder: Path, rng: Rng, suffix: str = ".png") -> list[Path]:
    folder.mkdir(parents=True)
    stems = sorted({name(rng), name(rng), os.fsdecode(_latin(rng))})
    for stem in stems:
        (folder / f"{stem}{suffix}").write_bytes(encode(picture(rng), "PNG"))
    return [folder / f"{stem}{suffix}" for stem in stems]


Parts = tuple[Callable[[], Any], Callable[[Any], str | None]]


def _makes(do: Callable[[Path, Rng], Parts]) -> Make:
    def make(folder: Path, rng: Rng) -> Action:
        run, check = do(folder, rng)
        return Action(run=run, check=check, writes=(folder,))

    return make


def _wrong(condition: bool, what: str) -> str | None:
    return what if condition else None


def _provenance(folder: Path, rng: Rng) -> Any:
    paths = [str(path) for path in _odd_images(folder / "photos", rng)]

    def run() -> Any:
        from vice.plugins.vissl.hooks.run import _meta

        source = SimpleNamespace(paths=paths)
        datasets = {"train": SimpleNamespace(data_objs=[source])}
        trunk = SimpleNamespace(embedder=SimpleNamespace(weight_source=None))
        task = SimpleNamespace(
            base_model=SimpleNamespace(trunk=trunk), datasets=datasets, iteration=1,
            train_phase_idx=0, method=SimpleNamespace(provenance=dict),
            config={"SEED_VALUE": 1, "VICE": {}, "OPTIMIZER": {"num_epochs": 3}},
        )  # fmt: skip
        return json.loads(json.dumps(_meta(task)))

    import hashlib

    expected = hashlib.sha256(b"\n".join(map(os.fsencode, paths))).hexdigest()
    return run, lambda meta: _wrong(meta["image_list_sha256"] != expected, "another hash")


def _labelled(folder: Path, rng: Rng) -> Path:
    root = runs.labelled(folder / "data", rng)
    for stem in {name(rng), os.fsdecode(_latin(rng))}:
        for kind in ("images", "labels"):
            data = (root / kind / "val" / "0.png").read_bytes()
            (root / kind / "val" / f"{stem}.png").write_bytes(data)
    return root


def _checksums(folder: Path, rng: Rng) -> Any:
    root = _labelled(folder, rng)

    def run() -> Any:
        from vice.datasets import open_dataset
        from vice.datasets.subsets import take_subset

        opened = open_dataset(str(root), None)
        names = opened.names("val")
        assert len(opened.check("val")) == len(names)
        return names, opened.checksum("val"), take_subset(names, 0.5, 0)

    def check(found: Any) -> str | None:
        names, checksum, subset = found
        import hashlib

        raw = b"".join(os.fsencode(name) + b"\n" for name in names)
        expected = hashlib.sha256(raw).hexdigest()
        return _wrong(checksum != expected or not set(subset) <= set(names), "another list")

    return run, check


def _listed(folder: Path, rng: Rng) -> Any:
    images = [p for p in _odd_images(folder / "photos", rng) if "\n" not in p.name]
    images = [p for p in images if not p.name.endswith("\r")]
    text = b"".join(os.fsencode(path.name) + b"\n" for path in images)
    (folder / "photos" / "list.txt").write_bytes(text)

    def run() -> Any:
        from vice.images import list_images

        return list_images(folder / "photos" / "list.txt")

    return run, lambda found: _wrong(found != images, f"{found} for {images}")


def _report(folder: Path, rng: Rng) -> Any:
    (path,) = _odd_images(folder / "out" / "pictures", rng)[:1]

    def run() -> Any:
        from vice.experiments.demo.page import Picture, Section, write_report

        pictures = (Picture(path.absolute(), f"shown: {path.stem}"),)
        results = {"title": path.stem, "config": {path.stem: str(path)}}
        return write_report(folder / "out", results, [Section(path.stem, path.stem, pictures)])

    def check(page: Path) -> str | None:
        import re
        from urllib.parse import unquote_to_bytes

        text = page.read_bytes().decode("utf-8")
        link = re.search(r'<img src="([^"]+)"', text)
        assert link is not None
        file = folder / "out" / os.fsdecode(unquote_to_bytes(link[1]))
        return _wrong(not file.is_file(), f"{link[1]} leads nowhere")

    return run, check


def _subset(folder: Path, rng: Rng) -> Any:
    names = [path.stem for path in _odd_images(folder / "photos", rng)]

    def run() -> Any:
        from vice.plugins.mmseg.subset_list import write_subset

        write_subset(names, SimpleNamespace(out_dir=folder / "out"))
        return (folder / "out" / "subset.txt").read_bytes().split(b"\n")[:-1]

    return run, lambda lines: _wrong(len(lines) != len(names), f"{len(lines)} lines")


def _maps(folder: Path, rng: Rng) -> Any:
    stem = name(rng)

    def run() -> Any:
        from vice.evaluation.results import plain
        from vice.plugins.mmseg.results import write_samples
        from vice.runtime.files import write_json

        label = np.zeros((8, 8), np.uint8)
        sample = SimpleNamespace(
            name=stem, image=np.zeros((8, 8, 3), np.uint8), label=label, predictions=[label]
        )
        task = SimpleNamespace(out_dir=folder / "out")
        metric = SimpleNamespace(samples=[sample])
        found = write_samples(metric, task, {"linear": torch.zeros(1, dtype=torch.long)}, 2)
        write_json(folder / "out" / "results.json", plain({**found, "path": folder / stem}))
        return json.loads((folder / "out" / "results.json").read_text())

    def check(result: Any) -> str | None:
        (written,) = result["maps"]
        return _wrong(not (folder / "out" / written).is_file(), f"no {written!r}")

    return run, check


def _confusion(folder: Path, rng: Rng) -> Any:
    classes = (name(rng).replace("\n", " ") or "a", "照片$")

    def run() -> Any:
        from vice.visualize import plot_confusion

        title = f"{folder / name(rng)}\nconfusion"
        return plot_confusion(np.eye(2, dtype=int), classes, folder / "c.png", title)

    return run, lambda path: _wrong(not path.read_bytes().startswith(b"\x89PNG"), "no picture")


def _config(folder: Path, rng: Rng) -> Any:
    photos, out = folder / name(rng), folder / f"{name(rng)}.run"
    _odd_images(photos, rng)

    def run() -> Any:
        from vice.experiments.train import quote
        from vice.plugins.vissl.config.configure import configure, write_config
        from vice.plugins.vissl.resuming import prepare_resume
        from vice.runtime.run_folder import read_config

        words = ["config=vice/folder", f"config.DATA.TRAIN.DATA_PATHS=[{quote(photos)}]"]
        _, config = configure([*words, f"config.CHECKPOINT.DIR={quote(out)}"])
        prepare_resume(config)
        write_config(config)
        return read_config(out)

    def check(config: Any) -> str | None:
        return _wrong(config["DATA"]["TRAIN"]["DATA_PATHS"] != [str(photos)], "another path")

    return run, check


def compare_tool(tables: list[Any], out: str, **pages: Any) -> None:
    """Runs ``tools/compare.py`` on tables instead of results; ``pages`` replace what draws them."""
    from vice.evaluation import compare, comparison_page, paired, scored_folders

    tool = Path(__file__).parents[2] / "tools" / "compare.py"
    with (
        mock.patch.multiple(
            scored_folders, divide_folders=lambda folders: (folders, []), read_results=list
        ),
        mock.patch.object(compare, "make_tables", lambda *_: tables),
        mock.patch.object(paired, "pair_tables", lambda *_: []),
        mock.patch.multiple(comparison_page, **pages) if pages else nullcontext(),
        mock.patch.object(sys, "argv", ["compare.py", ".", "--out", out]),
    ):
        runpy.run_path(str(tool))["main"]()


def _compared(folder: Path, rng: Rng) -> Any:
    spec = str(folder / name(rng))
    suffix = (".html", ".md")[int(rng.integers(2))]

    def run() -> Any:
        from vice.evaluation.compare import ComparisonTable

        def table(row: str) -> ComparisonTable:
            settings = {"dataset": "d", "kind": "linear"}
            return ComparisonTable("t", settings, ["linear"], {row: {"linear": [(0.5, 0.5)]}})

        from vice.evaluation import comparison_page

        make = comparison_page.to_html if suffix == ".html" else comparison_page.to_markdown
        compare_tool([table(spec)], f"t{suffix}")
        text = (folder / f"t{suffix}").read_bytes().decode("utf-8")
        return len(text.split("\n")), len(make([table("plain")], []).split("\n"))

    return run, lambda lines: _wrong(lines[0] != lines[1], "broken lines")


def _cached(folder: Path, rng: Rng) -> Any:
    images, cache = _odd_images(folder / "photos", rng), folder / f"{name(rng)}.cache"

    def run() -> Any:
        from vice.superpixels import Superpixels

        superpixels = Superpixels(cache_dir=cache)
        first = [superpixels.read(path, mode="none")[1] for path in images]
        second = [superpixels.read(path, mode="none")[1] for path in images]
        return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))

    return run, lambda same: _wrong(not same or not list(cache.rglob("*.npz")), "no cache")


def _region_file(folder: Path, rng: Rng) -> Any:
    images = _odd_images(folder / "photos", rng)
    (folder / "maps").mkdir()
    for path in images:
        np.save(folder / "maps" / f"{path.stem}.npy", np.zeros((30, 40), np.int32))

    def run() -> Any:
        from vice.superpixels import RegionFiles

        files = RegionFiles(folder / "maps")
        return [files.read(path, (30, 40)).shape for path in images]

    return run, lambda shapes: _wrong(len(shapes) != len(images), "maps are missing")


def _run_folder(folder: Path, rng: Rng) -> Any:
    run_dir = runs.run_folder(folder, f"{name(rng)}r"[:255])

    def run() -> Any:
        import vice
        from vice.runtime.health_log import HealthLog, read_health

        HealthLog(run_dir).write({"iteration": 0})
        predictor = vice.load(run_dir)
        return predictor.embed(np.zeros((30, 40, 3), np.uint8)), read_health(run_dir)

    return run, lambda found: _wrong(found[1] != [{"iteration": 0}], "no record")


def _long_file(folder: Path, rng: Rng) -> Any:
    path = folder / os.fsdecode(_long(rng))

    def run() -> Any:
        from vice.visualize import plot_curves, save_png

        save_png(np.zeros((4, 4, 3), np.uint8), path)
        plot_curves([{"loss": 1.0}], path)
        from vice.runtime.files import replace_atomically

        return replace_atomically(path, lambda new: Path(new).write_bytes(b"whole"))

    return run, lambda _: _wrong(path.read_bytes() != b"whole", "not written")


def _logged(encoding: str) -> Callable[[Path, Rng], Any]:
    def make(folder: Path, rng: Rng) -> Any:
        path = folder / f"{name(rng)}.jpg"

        def run() -> Any:
            from vice.runtime.log_streams import guard

            stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
            before, disabled = list(logging.root.handlers), logging.root.manager.disable
            logging.root.handlers = [logging.StreamHandler(stream)]
            logging.disable(logging.NOTSET)
            try:
                guard(logging.root.handlers)
                logging.getLogger("vice").warning("skipped: %s", path)
            finally:
                logging.root.handlers = before
                logging.disable(disabled)
            stream.flush()
            return stream.buffer.getvalue()  # type: ignore[attr-defined]

        def check(written: bytes) -> str | None:
            if not written.startswith(b"skipped: ") or b"\x1b" in written:
                return f"wrote {written!r}"
            return _wrong(written.count(b"\n") != 1, "more than one line")

        return run, check

    return make


def _refused(folder: Path, rng: Rng) -> Action:
    path = folder / os.fsdecode(_latin(rng) + b"\x1b[2J" + b".png")
    path.write_bytes(b"")

    def run() -> None:
        from vice.images import read_image

        read_image(path)

    return Action(run=run, names=("stra\\xdfe",))


FAMILY = Family(
    GROUP,
    {
        "provenance": ("worked", _makes(_provenance)),
        "checksums": ("worked", _makes(_checksums)),
        "list-file": ("worked", _makes(_listed)),
        "report": ("worked", _makes(_report)),
        "subset": ("worked", _makes(_subset)),
        "sample-maps": ("worked", _makes(_maps)),
        "confusion": ("worked", _makes(_confusion)),
        "config": ("worked", _makes(_config)),
        "compared": ("worked", _makes(_compared)),
        "superpixel-cache": ("worked", _makes(_cached)),
        "region-files": ("worked", _makes(_region_file)),
        "run-folder": ("worked", _makes(_run_folder)),
        "long-file": ("worked", _makes(_long_file)),
        "log-ascii": ("worked", _makes(_logged("ascii"))),
        "log-utf-8": ("worked", _makes(_logged("utf-8"))),
        "message": ("refused", _refused),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

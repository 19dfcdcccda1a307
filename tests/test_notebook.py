"""The notebook, on a folder of one's own; tests/test_site.py looks at it on the photographs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vice.models import Prototypes, build_embedder
from vice.models.checkpoint import save_run

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("faiss")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "explore_checkpoint.ipynb"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    save_run(folder, build_embedder("resnet18", "fpn", 16), Prototypes(16, 8), {})
    return folder


def execute(monkeypatch: pytest.MonkeyPatch, **environment: Path) -> Any:
    for name in ("VICE_CHECKPOINT", "VICE_IMAGES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    return notebook


def pictures(notebook: Any) -> list[np.ndarray]:
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            if "image/png" in output.get("data", {}):
                data = base64.b64decode(output["data"]["image/png"])
                found.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    return found


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_it_runs_on_a_folder(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(2):
        noise = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index}.png")
    found = pictures(execute(monkeypatch, VICE_CHECKPOINT=checkpoint, VICE_IMAGES=tmp_path))
    assert len(found) >= 4
    assert found[0].shape[1] < 500

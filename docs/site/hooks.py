"""Pages of the site that are made of other files: the notebook, executed while the site is made."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "explore_checkpoint.ipynb"
#: What `make demo` trains. Without it plain color is shown, which needs no training.
TRAINED, FLOOR = ROOT / "outputs" / "demo" / "train", "lab"


def on_files(files: Any, config: Any) -> Any:
    """Adds the notebook as a page, with what its cells print and draw."""
    model = os.environ.get("VICE_CHECKPOINT") or (str(TRAINED) if TRAINED.exists() else FLOOR)
    first, *cells = _executed(model).cells
    parts, pictures = [first.source, _header(model)], 0
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for text, picture in _outputs(cell):
            if picture is None:
                parts.append(f"```text\n{text.rstrip()}\n```")
                continue
            pictures += 1
            name = f"notebook-{pictures}.png"
            files.append(File.generated(config, name, content=picture))
            parts.append(f"![What the cell above draws]({name})")
    files.append(File.generated(config, "notebook.md", content="\n\n".join(parts) + "\n"))
    # Under the folder that holds no pages lies what they look like.
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "style.css", content=style))
    return files


def _header(model: str) -> str:
    shown = Path(model).relative_to(ROOT) if Path(model).is_relative_to(ROOT) else Path(model).name
    plain = ", plain color instead of a trained model" if model == FLOOR else ""
    return (
        f"*This is `notebooks/{NOTEBOOK.name}` of the checkout, executed while this site was made, "
        f"with `VICE_CHECKPOINT={shown}`{plain}. Run it with Jupyter on your own.*"
    )


def _executed(model: str) -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    os.environ["VICE_CHECKPOINT"] = model
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    # Standard error of the kernel: it tells of its own sockets.
    client = nbclient.NotebookClient(notebook, timeout=300, resources=resources)
    client.execute(stderr=subprocess.DEVNULL)
    return notebook


def _outputs(cell: Any) -> Iterator[tuple[str, bytes | None]]:
    """What a cell has printed, or the PNG that it has drawn."""
    for output in cell.outputs:
        if output.output_type == "stream":
            # What goes to standard error is of the machine, not of the example.
            if output.name == "stdout":
                yield output.text, None
            continue
        data = output.get("data", {})
        if "image/png" in data:
            yield "", base64.b64decode(data["image/png"])
        elif "text/plain" in data:
            yield data["text/plain"], None

"""Pages of the site that are made of other files: the notebook, whose code tests execute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "explore_checkpoint.ipynb"


def on_files(files: Any, config: Any) -> Any:
    """Adds the notebook as a page, its code as it is stored, without outputs."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    parts = [
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in cells
    ]
    where = f"\n\nThis is `notebooks/{NOTEBOOK.name}` of the checkout, to be run with Jupyter.\n"
    files.append(File.generated(config, "notebook.md", content="\n\n".join(parts) + where))
    # Under the folder that holds no pages lies what they look like.
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "style.css", content=style))
    return files

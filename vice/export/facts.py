"""What a file for another program says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vice._version import __version__
from vice.predictor import Predictor
from vice.runtime.provenance import digest

#: Under which key of a file's metadata the facts stand, as JSON.
KEY = "vice"


def facts(predictor: Predictor, **more: Any) -> dict[str, Any]:
    """What is true of a model in every format.

    Args:
        predictor: The model.
        **more: What is true of the file, or truer of it.

    Returns:
        What JSON can hold.
    """
    embedder, concepts = predictor.embedder, predictor.checkpoint.concepts
    path = predictor.checkpoint.path
    return {
        "version": __version__,
        "model": Path(predictor.name).name if path else predictor.name,
        "digest": digest(embedder),
        "network": getattr(embedder, "config", type(embedder).__name__),
        "dim": predictor.dim,
        "concepts": None if concepts is None else len(concepts),
        "training": predictor.checkpoint.meta,
    } | more


def as_text(content: dict[str, Any]) -> str:
    """Facts as a file's metadata hold them."""
    return json.dumps(content, sort_keys=True, default=str)

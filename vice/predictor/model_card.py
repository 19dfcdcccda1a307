"""The page that goes with a model: what it was trained on, its scores, how it is loaded."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.models.checkpoint import Checkpoint
from vice.models.concepts import Concepts
from vice.names import printable
from vice.nearest import near_path
from vice.paths import from_home
from vice.redaction import redact_text
from vice.runtime.files import read_json
from vice.runtime.provenance import digest, known_digest
from vice.runtime.regular_file import open_regular
from vice.runtime.result_folders import result_folders
from vice.runtime.run_folder import RESULTS_NAME

#: As in a folder of Hugging Face.
CARD_FILE = "README.md"
#: How the header of a card begins.
_LIBRARY = 'library_name: "vice"'
UNKNOWN = "not stated"
#: Read-outs that are taken under a protocol, and what is scored beside one, to their names.
_READOUTS = {kind: kind for kind in ("linear", "clusters", "retrieval", "finetune")}
_BESIDE = {"linear_best": "linear, best epoch"}
logger = logging.getLogger(__name__)


def model_card(
    checkpoint: Checkpoint,
    *,
    name: str,
    data: str = UNKNOWN,
    license: str = "other",
    results: str | Path | Sequence[str | Path] = (),
) -> str:
    """Writes the page.

    Args:
        checkpoint: The model.
        name: As it will be loaded, such as ``owner/name``.
        data: What it was trained on, in a sentence.
        license: Of the weights, as Hugging Face spells it, such as ``"apache-2.0"``.
        results: Files ``results.json`` of evaluations, their folders, or folders of such folders;
            one of them, or several. Those without a score under a protocol, such as of the
            positional bias, are left out, and counted in the log.

    Returns:
        Markdown with a header in YAML.

    Raises:
        UserError: A result cannot be read or is of another model, or none of them holds a score
            under a protocol.
    """
    places = [results] if isinstance(results, str | Path) else results
    files = list(dict.fromkeys(file for path in places for file in _files(path)))
    rows = _rows(files, checkpoint)
    concepts = checkpoint.concepts
    network = {**checkpoint.embedder.config, "parameters": _parameters(checkpoint)}
    header = {
        "library_name": "vice",
        "license": license,
        "pipeline_tag": "image-feature-extraction",
        "tags": ["dense-embeddings", "unsupervised-segmentation", "vice"],
    }
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in header.items()),
            "---",
            "",
            f"# {_line(name)}",
            "",
            "A dense embedder of ViCE: an image to a unit vector of each pixel, so that pixels of",
            f"the same visual concept have similar vectors.{_own(concepts)}",
            "",
            "## How to load it",
            "",
            "```python",
            "import vice",
            "",
            f"predictor = vice.Predictor.from_pretrained({name!r})",
            'embedding = predictor.embed("photo.jpg")  # (D, H, W), unit vectors',
            *(['labels = predictor.segment("photo.jpg")  # (H, W)'] if concepts else []),
            "```",
            "",
            "## Trained on",
            "",
            _line(data),
            "",
            "## Scores",
            "",
            *(_table(rows) if rows else ["None were given. A score carries its protocol's hash."]),
            "",
            "## Network",
            "",
            *_list(network),
            "",
            "## Training",
            "",
            *(_list(checkpoint.meta) or [UNKNOWN]),
            "",
        ]
    )


def is_card(path: Path) -> bool:
    """Whether a file is a card that `model_card` has written."""
    try:
        with open_regular(path) as file:
            return file.read(200).startswith(f"---\n{_LIBRARY}\n".encode())
    except (OSError, UserError):
        return False


def _rows(files: Sequence[Path], checkpoint: Checkpoint) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    weights = digest(checkpoint.embedder) if files else None
    without: dict[Path, str] = {}
    for file in files:
        result = read_json(file, "score again")
        if _digest(result) not in (None, weights):
            spec = printable(str(result.get("spec")))
            raise UserError(
                f"{printable(str(file))} is of another model ({spec}): give the results of this "
                "one, or score it"
            )
        found = list(score_rows(result))
        rows += found
        if not found:
            without[file] = str(result.get("kind") or file)
    if not without:
        return rows
    if not rows:
        raise UserError(
            f"{next(iter(without))} holds no score under a protocol: give a {RESULTS_NAME} of "
            f"{', '.join(_READOUTS)}"
        )
    named = ", ".join(f"{kind} {number}" for kind, number in Counter(without.values()).items())
    logger.warning(
        "left out of the card, without a score under a protocol: %d of %d results (%s)",
        len(without), len(files), named,
    )  # fmt: skip
    return rows


def _digest(result: Mapping[str, Any]) -> str | None:
    """Of the model that a result is of; None where it does not say, or only a part was scored."""
    fields = result.get("protocol", {}).get("fields", {})
    if fields.get("features", "embedding") != "embedding":
        return None
    return known_digest(result.get("model", {}).get("digest"))


def _own(concepts: Concepts | None) -> str:
    if concepts is None:
        return ""
    return f" It brings {len(concepts)} concepts that pixels are compared with."


def score_rows(result: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Every mIoU and accuracy of a result, with the protocol that they were taken under.

    Args:
        result: What ``results.json`` holds.
    """
    protocol, dataset = result.get("protocol", {}), result.get("dataset", {})
    for kind, name in {**_READOUTS, **_BESIDE}.items():
        for where, scores in _scores(result.get(kind), name):
            yield {
                "data": str(dataset.get("name", "")),
                "read-out": where,
                "mIoU": _percent(scores.get("miou")),
                "accuracy": _percent(scores.get("accuracy")),
                "protocol": f"{protocol.get('name', '')} {protocol.get('hash', '')}",
            }


def _scores(found: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(found, Mapping):
        return
    if "miou" in found:
        yield where, found
        return
    for key, value in found.items():
        yield from _scores(value, f"{where} {key}")


def _percent(value: Any) -> str:
    return f"{100 * value:.2f}" if isinstance(value, float | int) else "-"


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *(list(row.values()) for row in rows)]
    return [f"| {' | '.join(map(_line, line))} |" for line in lines]


def _list(values: Mapping[str, Any]) -> list[str]:
    return [f"- {_line(key)}: {_line(value)}" for key, value in values.items()]


def _line(value: Any) -> str:
    """A value on one line, without secrets."""
    return printable(redact_text(" ".join(str(value).split())))


def _parameters(checkpoint: Checkpoint) -> str:
    return f"{sum(value.numel() for value in checkpoint.embedder.parameters()):,}"


def _files(path: str | Path) -> list[Path]:
    path = from_home(path)
    if not path.exists():
        near = near_path(path, "give a results.json, or the folder that holds it")
        raise UserError(f"{path} does not exist{near}")
    if not path.is_dir():
        return [path]
    # What `vice score` writes: a folder for each read-out.
    found = [folder / RESULTS_NAME for folder in result_folders(path)]
    if not found:
        raise UserError(
            f"{path} holds no {RESULTS_NAME}, nor do the folders in it: give what an evaluation "
            "had as --out"
        )
    return found

"""Whether a split has anything to fit on or to score, and which classes it lacks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vice.datasets import ImageLabelPair, LabelledSet
from vice.datasets.split_files import name_some
from vice.errors import UserError
from vice.labels import IGNORE

logger = logging.getLogger(__name__)


def require_labels(source: LabelledSet, pairs: Sequence[ImageLabelPair], role: str) -> None:
    """Looks at label maps until one has a pixel that is not ignored: mostly the first.

    Args:
        source: Reads them.
        pairs: Images with their label maps.
        role: What they are for: ``"fit on"`` or ``"score"``.

    Raises:
        UserError: All pixels of all maps are ignored, or a map cannot be read.
    """
    maps = [pair.label for pair in pairs if pair.label is not None]
    if not any((source.read_label(path) != IGNORE).any() for path in maps):
        where = maps[0].parent if maps else source.root
        raise UserError(
            f"{where}: no labelled pixel to {role} in {len(maps)} label maps (all are {IGNORE}, "
            "which means ignore): write the class of each pixel, or name another split"
        )


def absent_classes(
    classes: Sequence[str], present: Mapping[str, Tensor | None]
) -> dict[str, list[str] | None]:
    """Classes without a labelled pixel.

    Args:
        classes: Their names.
        present: ``"fit"`` and ``"score"`` to bool (C,): whether a class has one in what was fitted
            on and in what was scored. None: no labels were used.

    Returns:
        The names that are absent, in the order of the classes; None where no labels were used.
    """
    return {
        part: None
        if flags is None
        else [name for name, here in zip(classes, flags.tolist(), strict=True) if not here]
        for part, flags in present.items()
    }


def warn_absent_classes(
    absent: Mapping[str, Sequence[str] | None], splits: Mapping[str, Any]
) -> None:
    """Names absent classes in the log, in one line.

    Args:
        absent: What `absent_classes` returns.
        splits: ``"fit"`` and ``"score"`` to the name of the split.
    """
    verbs = {"fit": "fitted", "score": "scored"}
    texts = [
        f"in the {verbs[part]} split {splits[part]}: {name_some(names)}"
        for part, names in absent.items()
        if names
    ]
    if texts:
        logger.warning("classes without a labelled pixel %s", "; ".join(texts))


def warn_single_class(
    classes: Sequence[str], absent: Mapping[str, Sequence[str] | None], split: str
) -> str | None:
    """Says in the log where a scored split has labelled pixels of one class alone.

    Args:
        classes: Names of all classes.
        absent: What `absent_classes` returns; may be empty.
        split: Name of the scored split.

    Returns:
        That class; None of several.
    """
    missing = set(absent.get("score") or ())
    present = [name for name in classes if name not in missing]
    if len(present) != 1:
        return None
    logger.warning(
        "the scored split %s has labelled pixels of one class alone, %s: %s, and its scores tell "
        "nothing", split, present[0],
        "any model scores 100 %" if len(classes) == 1 else "whatever says it always scores 100 %",
    )  # fmt: skip
    return present[0]

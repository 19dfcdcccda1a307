"""``dataset.yaml``: where the images and labels of a folder lie, and what stored values mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vice.datasets.class_names import MAX_CLASSES
from vice.datasets.described.stored_values import pack, unpack
from vice.errors import UserError, brief
from vice.labels import IGNORE
from vice.nearest import did_you_mean
from vice.parts import package
from vice.runtime.files import write_text
from vice.runtime.regular_file import open_regular

NAME = "dataset.yaml"
FORMAT = "vice-dataset-1"
#: What stands for a value, or for pixels without any, that is no class.
IGNORED = "ignore"
APPLY, AS_STORED = "apply", "ignore"
SKIP, REFUSE = "skip", "refuse"
_REMEDY = "mend it, or let `vice prepare folder` write it again"
_HEAD = """\
# What stands in this folder and what it means; `vice prepare folder` wrote it, every line can be
# changed. {stem} is what an image and its labels have in common, folders included; {folder} a part
# of it that other folders lie below; .* is any suffix of an image. values: what a stored value, or
# color "R G B", means: a class, or ignore.
"""


@dataclass(frozen=True)
class Split:
    """Where the files of a split lie, as templates with ``{stem}``.

    Attributes:
        images: Template of its images.
        labels: Template of its labels, or the path of a file of annotations in COCO's format.
        list: Text file with the stems that belong to it, one a line; None: all that are there.
    """

    images: str
    labels: str
    list: str | None = None


@dataclass(frozen=True)
class Description:
    """What ``dataset.yaml`` holds.

    Attributes:
        name: Of the data set.
        splits: By name.
        classes: Names in index order.
        values: Stored value (a color packed as `vice.datasets.described.stored_values.pack` does)
            to the name of its class, or ``"ignore"``.
        colors: Whether stored values are colors.
        exif: ``"apply"``: images and labels are turned as their EXIF orientation says;
            ``"ignore"``: pixels stay in the order in which they are stored.
        unpaired: ``"skip"`` images without labels and labels without an image, and say how many,
            or ``"refuse"`` them.
        unlabelled: Class, or ``"ignore"``, of pixels without any annotation (COCO's format).
        root: Folder that templates start from; None: the one that holds the description.
        decisions: What was decided when the description was written, and why.
    """

    name: str
    splits: dict[str, Split]
    classes: tuple[str, ...]
    values: dict[int, str]
    colors: bool = False
    exif: str = APPLY
    unpaired: str = REFUSE
    unlabelled: str = IGNORED
    root: str | None = None
    decisions: tuple[str, ...] = field(default=())

    def class_of(self, name: str) -> int:
        """Index of a class; 255 of ``"ignore"``."""
        return IGNORE if name == IGNORED else self.classes.index(name)

    @property
    def digest(self) -> str:
        """Digest of all that changes what is read; reasons, name and place do not."""
        apart = ("decisions", "root", "name")
        plain = {key: value for key, value in _plain(self).items() if key not in apart}
        text = json.dumps(plain, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def read_description(path: Path) -> Description:
    """Reads ``dataset.yaml``.

    Raises:
        UserError: It is not whole, or says something that cannot be; names the line's key.
    """
    plain = _load(path)
    try:
        return _checked(plain)
    except UserError as error:
        raise UserError(f"{path}: {error}; {_REMEDY}") from error


def write_description(description: Description, path: Path) -> None:
    """Writes it in one step, with a head that says what it is.

    Raises:
        UserError: The folder cannot be written, or nobody could read what would be written.
    """
    yaml = package("yaml")
    try:
        _checked(yaml.safe_load(yaml.safe_dump(_plain(description))))
    except UserError as error:
        raise UserError(
            f"this folder cannot be described ({error}): rename what is named"
        ) from error
    text = yaml.safe_dump(_plain(description), sort_keys=False, allow_unicode=True, width=100)
    write_text(path, _HEAD + text)


def _plain(description: Description) -> dict[str, Any]:
    values = {
        " ".join(map(str, unpack(value))) if description.colors else value: name
        for value, name in sorted(description.values.items())
    }
    splits = {
        name: {key: value for key, value in vars(split).items() if value is not None}
        for name, split in description.splits.items()
    }
    return {
        "format": FORMAT,
        "name": description.name,
        **({"root": description.root} if description.root else {}),
        "splits": splits,
        "classes": list(description.classes),
        "values": values,
        "exif": description.exif,
        "unpaired": description.unpaired,
        "unlabelled": description.unlabelled,
        "decisions": list(description.decisions),
    }


def _load(path: Path) -> Any:
    yaml = package("yaml")
    try:
        with open_regular(path) as file:
            return yaml.safe_load(file)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not whole ({brief(error)}); {_REMEDY}") from error


def _checked(plain: Any) -> Description:
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
        raise UserError(f"format must be {FORMAT}")
    known = {"format", "name", "root", "splits", "classes", "values", "exif", "unpaired",
             "unlabelled", "decisions"}  # fmt: skip
    if unknown := sorted(map(str, set(plain) - known)):
        near = did_you_mean(unknown[0], known, f"known are {', '.join(sorted(known))}")
        raise UserError(f"unknown key {unknown[0]!r}{near}")
    classes = _strings(plain, "classes")
    if not classes or len(set(classes)) < len(classes) or IGNORED in classes:
        raise UserError(f"classes must be different names, none of them {IGNORED!r}")
    if len(classes) > MAX_CLASSES:
        raise UserError(f"{len(classes)} classes; there is room for {MAX_CLASSES}")
    unlabelled = plain.get("unlabelled", IGNORED)
    if unlabelled not in (*classes, IGNORED):
        raise UserError(f"unlabelled: {unlabelled!r} is neither a class nor {IGNORED}")
    values, colors = _read_values(plain.get("values"), classes, unlabelled)
    for key, words in (("exif", (APPLY, AS_STORED)), ("unpaired", (SKIP, REFUSE))):
        if plain.get(key, words[0]) not in words:
            raise UserError(f"{key} must be {' or '.join(words)}, not {plain[key]!r}")
    return Description(
        name=str(plain.get("name", "")),
        splits=_splits(plain.get("splits")),
        classes=classes,
        values=values,
        colors=colors,
        exif=plain.get("exif", APPLY),
        unpaired=plain.get("unpaired", REFUSE),
        unlabelled=unlabelled,
        root=None if plain.get("root") is None else str(plain["root"]),
        decisions=_strings(plain, "decisions"),
    )


def _strings(plain: Mapping[str, Any], key: str) -> tuple[str, ...]:
    given = plain.get(key) or []
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise UserError(f"{key} must be a list of texts (quote those that look like numbers)")
    return tuple(given)


def _splits(given: Any) -> dict[str, Split]:
    if not isinstance(given, Mapping) or not given:
        raise UserError("splits must name at least one split")
    splits = {}
    for name, parts in given.items():
        if not isinstance(name, str) or not name.strip() or "+" in name:
            raise UserError(f"splits: {name!r} is no name of a split (a text without +)")
        fields = parts if isinstance(parts, Mapping) else {}
        if not {"images", "labels"} <= set(fields) <= {"images", "labels", "list"}:
            raise UserError(f"splits: {name} must have images, labels, and a list if there is one")
        if not all(isinstance(value, str) for value in fields.values()):
            raise UserError(f"splits: {name} must hold texts")
        if any(Path(text).is_absolute() or ".." in Path(text).parts for text in fields.values()):
            raise UserError(f"splits: {name}: paths lie below root")
        _check_templates(name, fields["images"], fields["labels"])
        splits[str(name)] = Split(**fields)
    return splits


def _check_templates(name: str, images: str, labels: str) -> None:
    if images.count("{stem}") != 1 or labels.count("{stem}") > 1:
        raise UserError(f"splits: {name}: a template holds {{stem}} once")
    for text in (images, labels):
        if text.count("{folder}") > 1 or "{folder}" in text.partition("{stem}")[2]:
            raise UserError(f"splits: {name}: a template holds {{folder}} once, before {{stem}}")
    if "{stem}" in labels and ("{folder}" in images) != ("{folder}" in labels):
        raise UserError(f"splits: {name}: both templates hold {{folder}}, or neither does")


def _read_values(
    given: Any, classes: tuple[str, ...], unlabelled: str
) -> tuple[dict[int, str], bool]:
    if not isinstance(given, Mapping) or not given:
        raise UserError("values must say what each stored value means")
    values: dict[int, str] = {}
    kinds = set()
    for key, name in given.items():
        if name not in (*classes, IGNORED):
            raise UserError(f"values: {key} is {name!r}, which is neither a class nor {IGNORED}")
        value, is_color = _read_key(key)
        kinds.add(is_color)
        values[value] = name
    if len(kinds) > 1:
        raise UserError("values must be all numbers, or all colors")
    if missing := sorted(set(classes) - {*values.values(), unlabelled}):
        raise UserError(f"values: none means {missing[0]}")
    return values, kinds == {True}


def _read_key(key: Any) -> tuple[int, bool]:
    parts = str(key).split()
    if all(part.isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if len(numbers) == 3 and max(numbers) <= 255:
            return int(pack(*numbers)), True
        if len(numbers) == 1 and numbers[0] < 2**31:
            return numbers[0], False
    raise UserError(f'values: {key!r} is neither a whole number nor a color "R G B"')

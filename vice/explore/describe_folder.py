"""A folder of images and labels: its description, what it says in a few lines, and a page."""

from __future__ import annotations

import base64
import html
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vice.datasets.described.described_set import DescribedSet
from vice.datasets.described.description import IGNORED, NAME, write_description
from vice.datasets.described.recognize import Recognized, recognize
from vice.errors import UserError
from vice.images import FormatError, Reading, read_image
from vice.labels import IGNORE
from vice.names import printable
from vice.runtime.files import write_text
from vice.visualize.maps import colorize, overlay, palette
from vice.visualize.sheets import fit

PAGE = "dataset.html"
#: Height of a picture on the page, in pixels.
_HEIGHT = 220
#: Classes that are named on the terminal.
_NAMED = 12


def describe_folder(
    root: Path, out: Path | None = None, table: Path | None = None, *, show: int = 0,
    again: bool = False, reading: Reading | None = None,
) -> str:  # fmt: skip
    """Recognizes a folder, writes its description, and draws some of it.

    Args:
        root: The folder.
        out: The description; None: ``dataset.yaml`` in the folder.
        table: A table of its classes elsewhere.
        show: How many images of each split are drawn on a page beside the description.
        again: Whether a description that is there may be written over.
        reading: How images are read that are drawn; None as 8-bit RGB.

    Returns:
        What was found, for the user.

    Raises:
        UserError: See `vice.datasets.described.recognize.recognize`; or there is a description.
    """
    path = root / NAME if out is None else out
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {path}: must end in .yaml")
    if os.path.exists(path) and not again:
        raise UserError(f"{path} is there: change it by hand, or write it anew with --again")
    found = recognize(root, table)
    description = found.description
    if path.parent.resolve() != root.resolve():
        description = replace(description, root=str(root.absolute()))
    lines = [said(found), f"described: {printable(str(path))}"]
    page, text = path.with_name(PAGE), None
    if show:
        data = DescribedSet(
            root, description.classes, name=description.name, description=description,
            reading=reading,
        )  # fmt: skip
        text = _drawn(data, replace(found, description=description), show)
        lines.append(f"look at it: {printable(str(page))}")
    write_description(description, path)
    if text is not None:
        write_text(page, text)
    return "\n".join(lines)


def _drawn(data: DescribedSet, found: Recognized, show: int) -> str:
    try:
        return draw_page(data, found, show)
    except FormatError as error:
        raise UserError(
            f"{error} (to draw such images, give --read-as RUN with the folder of that training; "
            "without --show none is drawn)"
        ) from error


def said(found: Recognized) -> str:
    """What was recognized, in a few lines."""
    description = found.description
    counts = ", ".join(f"{split} {number}" for split, number in found.counts.items())
    lines = [f"images with labels: {counts}"]
    lines += [
        f"{name}: {split.images} with {split.labels}" + (f", of {split.list}" if split.list else "")
        for name, split in description.splits.items()
    ]
    shares = [f"{name} {100 * share:.1f} %" for name, share in found.shares.items()]
    more = f", and {len(shares) - _NAMED} more" if len(shares) > _NAMED else ""
    known = description.classes[:_NAMED]
    lines.append(f"{len(description.classes)} classes: " + (
        ", ".join(shares[:_NAMED]) + f"{more} (of the pixels of {found.looked_at} labels)"
        if shares else ", ".join(known) + (", ..." if len(known) < len(description.classes) else "")
    ))  # fmt: skip
    return "\n".join([*lines, *(f"- {reason}" for reason in description.decisions)])


def draw_page(data: DescribedSet, found: Recognized, show: int) -> str:
    """A page that needs no other file: images, labels over them, legend, and the decisions."""
    classes = data.classes
    colors = palette(len(classes))
    legend = "".join(
        f'<li><span style="background:rgb{tuple(int(c) for c in color)}"></span>'
        f"{html.escape(name)}{_share(found, name)}</li>"
        for name, color in zip(classes, colors, strict=True)
    )
    ignored = f'<li><span style="background:#000"></span>ignored{_share(found, IGNORED)}</li>'
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in data.said.decisions)
    sections = "".join(_section(data, split, show) for split in data.splits())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(data.name)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(data.name)}</h1><ul class=legend>{legend}{ignored}</ul>"
        f"<h2>Decisions</h2><ul>{reasons}</ul>{sections}</html>\n"
    )


def _share(found: Recognized, name: str) -> str:
    share = found.shares.get(name)
    return "" if share is None else f" {100 * share:.1f}&nbsp;%"


def _section(data: DescribedSet, split: str, show: int) -> str:
    pairs = data.pairs(split)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(show, len(pairs))).astype(int))
    figures = []
    for number in chosen:
        pair = pairs[number]
        assert pair.label is not None
        image = read_image(pair.image, upright=data.upright, reading=data.reading)
        labels = data.read_label(pair.label, image.shape[:2])
        painted = colorize(labels, len(data.classes), ignore=IGNORE)
        both = np.concatenate([image, overlay(image, painted, 0.6), painted], 1)
        name = html.escape(printable(str(pair.image.relative_to(data.root))))
        figures.append(
            f'<figure><img alt="{name}: image, labels over it, labels" src="{_embedded(both)}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    return f"<h2>{html.escape(split)}: {len(pairs)} images</h2>{''.join(figures)}"


def _embedded(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(fit(picture, _HEIGHT)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:1rem auto;max-width:1100px;padding:0 1rem;"
    "color:#222;background:#fff}img{max-width:100%;height:auto}figure{margin:1rem 0}"
    ".legend{display:flex;flex-wrap:wrap;gap:.3rem 1rem;list-style:none;padding:0}"
    ".legend span{display:inline-block;width:1em;height:1em;margin-right:.4em;"
    "border:1px solid #222;vertical-align:-.1em}figcaption{overflow-wrap:anywhere}"
)

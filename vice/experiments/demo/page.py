"""One HTML page that says what a run has learnt; its pictures lie beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vice.errors import UserError
from vice.experiments.demo.scores import class_table, score_table, terms, verdict
from vice.images.picture_formats import open_picture
from vice.names import name_bytes, printable
from vice.runtime.files import write_text
from vice.scoring import mean_over
from vice.visualize.page_style import CSS, scrolling


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        path: Image file inside the report's folder, absolute or relative to that folder.
        caption: What is to be seen and what it means.
        narrow: A form of the picture for narrow screens, in the same folder; without one, a narrow
            screen scrolls it.
    """

    path: str | Path
    caption: str
    narrow: str | Path | None = None


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: Its heading.
        text: Paragraphs, separated by empty lines; plain text.
        pictures: Shown below the text.
    """

    title: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()


def write_report(
    out_dir: str | Path, results: Mapping[str, Any], sections: Sequence[Section] = ()
) -> Path:
    """Writes ``report.html``: self-contained but for the pictures, which it links relatively.

    Args:
        out_dir: The report's folder.
        results: All keys are optional. ``title`` and ``summary``: text. ``classes``: names.
            ``scores``: ``{model: {read-out: {"miou", "accuracy", "iou_per_class"}}}``, shares in
            [0, 1]; models ``trained``, ``random`` and ``lab`` and read-outs ``linear`` and
            ``clusters`` get full names, others appear as they are; ``iou_per_class`` is a list in
            the order of ``classes`` or a mapping. ``readouts``: read-out to ``clusters`` (their
            number) and ``matching`` (``greedy`` or ``hungarian``). ``class_notes``: class to what
            its name means. ``config`` and ``versions``: nested mappings,
            printed at the end.
        sections: The pictures with their words.

    Returns:
        Path of the page.

    Raises:
        UserError: A picture is missing or lies outside ``out_dir``.
        ValueError: An ``iou_per_class`` has not one value for each class.
    """
    out_dir = Path(out_dir)
    title = str(results.get("title") or "ViCE: what was learnt")
    parts = list(_scores(results))
    parts += [(s.title, _section(s, out_dir)) for s in sections]
    parts += list(_appendix(results))
    links = "".join(f'<a href="#part-{k}">{_escape(name)}</a>' for k, (name, _) in enumerate(parts))
    body = "\n".join(
        f'<section id="part-{k}"><h2>{_escape(name)}</h2>\n{html}\n</section>'
        for k, (name, html) in enumerate(parts)
    )
    page = out_dir / "report.html"
    write_text(
        page,
        _PAGE.format(
            title=_escape(title),
            css=CSS,
            summary=_paragraphs(str(results.get("summary") or ""), "lead"),
            links=links,
            body=body,
        ),
    )
    return page


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{summary}
<nav>{links}</nav>
{body}
</main>
</body>
</html>
"""


def _scores(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    scores, readouts = results.get("scores"), results.get("readouts")
    if not scores:
        return
    items = "\n".join(
        f'<li class="{"good" if better else "bad"}">{_escape(sentence)}</li>'
        for better, sentence in verdict(scores, readouts)
    )
    words = "\n".join(
        f"<dt>{_escape(term)}</dt><dd>{_escape(text)}</dd>"
        for term, text in terms(scores, readouts)
    )
    verdicts = f'<ul class="verdict">\n{items}\n</ul>' if items else ""
    over = mean_over(entry or {} for model in scores.values() for entry in (model or {}).values())
    mean = f"<p>mIoU: {over}.</p>\n" if over else ""
    yield "Scores", f"{verdicts}\n{score_table(scores, readouts)}\n{mean}<dl>\n{words}\n</dl>"
    classes, notes = list(results.get("classes") or ()), results.get("class_notes")
    by_class = class_table(scores, classes, readouts, notes)
    if by_class:
        yield "Scores by class", _CLASS_NOTE + by_class


_CLASS_NOTE = (
    "<p>Intersection over union of each class, the parts of mIoU. The classes are those of the "
    "data set's label maps, by the names its classes.txt gives them; the colour is the one that "
    "class maps show them in. A dash: the class is neither in the labels nor predicted, and no "
    "part of the mean.</p>"
)


def _escape(text: str) -> str:
    return escape(printable(text))


def _section(section: Section, out_dir: Path) -> str:
    figures = "\n".join(_figure(picture, out_dir) for picture in section.pictures)
    return f"{_paragraphs(section.text)}\n{figures}"


def _figure(picture: Picture, out_dir: Path) -> str:
    link, (width, height) = _linked(picture.path, out_dir)
    caption = _escape(" ".join(picture.caption.split()))
    image = (
        f'<img src="{link}" alt="{caption}" width="{width}" height="{height}" '
        f'style="--width:{width}px" loading="lazy">'
    )
    if picture.narrow is None:
        shown = scrolling(f'<a href="{link}">{image}</a>')
    else:
        narrow, size = _linked(picture.narrow, out_dir)
        source = (
            f'<source media="(max-width: 600px)" srcset="{narrow}" width="{size[0]}" '
            f'height="{size[1]}">'
        )
        shown = f'<a href="{link}"><picture>{source}{image}</picture></a>'
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def _linked(name: str | Path, out_dir: Path) -> tuple[str, tuple[int, int]]:
    """The link to a picture and its width and height."""
    path = out_dir / name
    if not path.is_file():
        raise UserError(f"{path}: the report links this picture, but it does not exist")
    try:
        relative = path.resolve().relative_to(out_dir.resolve())
    except ValueError as error:
        raise UserError(f"{path} lies outside the report's folder {out_dir}: copy it in") from error
    with open_picture(path) as image:
        return escape(quote(name_bytes(relative.as_posix()))), image.size


def _appendix(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    tables = [
        f"<details{' open' if key == 'versions' else ''}><summary>{_escape(key)}</summary>"
        f"{_key_table(results[key])}</details>"
        for key in ("versions", "config")
        if results.get(key)
    ]
    if tables:
        yield "How it was made", "\n".join(tables)


def _key_table(values: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"<tr><th>{_escape(key)}</th><td>{_escape(value)}</td></tr>" for key, value in _flat(values)
    )
    return scrolling(f'<table class="keys"><tbody>\n{rows}\n</tbody></table>')


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _paragraphs(text: str, style: str = "") -> str:
    mark = f' class="{style}"' if style else ""
    parts = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n".join(f"<p{mark}>{_escape(part)}</p>" for part in parts if part)

"""One HTML page that says what a run has learnt; its pictures lie beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from vice.errors import UserError
from vice.files import write_text
from vice.names import name_bytes, printable
from vice.report.scores import EXPLANATIONS, class_table, score_table, verdict
from vice.report.style import CSS


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        path: Image file inside the report's folder, absolute or relative to that folder.
        caption: What is to be seen and what it means.
    """

    path: str | Path
    caption: str


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
            the order of ``classes`` or a mapping. ``config`` and ``versions``: nested mappings,
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
    scores = results.get("scores")
    if not scores:
        return
    items = "\n".join(
        f'<li class="{"good" if better else "bad"}">{escape(sentence)}</li>'
        for better, sentence in verdict(scores)
    )
    terms = "\n".join(f"<dt>{escape(t)}</dt><dd>{escape(text)}</dd>" for t, text in EXPLANATIONS)
    found = f'<ul class="verdict">\n{items}\n</ul>' if items else ""
    yield "Scores", f"{found}\n{score_table(scores)}\n<dl>\n{terms}\n</dl>"
    by_class = class_table(scores, list(results.get("classes") or ()))
    if by_class:
        note = "<p>Intersection over union of each class, the parts of mIoU.</p>"
        yield "Scores by class", note + by_class


def _escape(text: str) -> str:
    return escape(printable(text))


def _section(section: Section, out_dir: Path) -> str:
    figures = "\n".join(_figure(picture, out_dir) for picture in section.pictures)
    return f"{_paragraphs(section.text)}\n{figures}"


def _figure(picture: Picture, out_dir: Path) -> str:
    path = out_dir / picture.path
    if not path.is_file():
        raise UserError(f"{path}: the report links this picture, but it does not exist")
    try:
        relative = path.resolve().relative_to(out_dir.resolve())
    except ValueError as error:
        raise UserError(f"{path} lies outside the report's folder {out_dir}: copy it in") from error
    link = escape(quote(name_bytes(relative.as_posix())))
    with Image.open(path) as image:
        width, height = image.size
    caption = _escape(" ".join(picture.caption.split()))
    return (
        f'<figure><a href="{link}"><img src="{link}" alt="{caption}" width="{width}" '
        f'height="{height}" loading="lazy"></a><figcaption>{caption}</figcaption></figure>'
    )


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
    return f'<div class="wide"><table class="keys"><tbody>\n{rows}\n</tbody></table></div>'


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _paragraphs(text: str, style: str = "") -> str:
    mark = f' class="{style}"' if style else ""
    found = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n".join(f"<p{mark}>{_escape(part)}</p>" for part in found if part)

"""Reports of hostile names, numbers and sizes: right, readable, and nothing but text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import Action, Expected, Family, Make
from vice.experiments.demo.page import Picture, Section, write_report
from vice.names import printable
from vice.visualize import plot_confusion, plot_curves, save_png

Rng = np.random.Generator
GROUP = "reports"
SHARE = 0.03
MODELS = ("trained", "random", "lab")
HOSTILE = (
    "<script>open('x')</script>", "</td></table>", "&amp;", '" onload="x', "'>", "<!-- ", "{title}",
    "%s", "a\tb", "$\\frac{x}$", "\\", "`", "<style>*{display:none}</style>", "-->", "\u0007",
)  # fmt: skip
FOREIGN = ("طريق مرصوف", "\u202eevil", "שלום (a)", "🌳🏠", "道路", "ﷺ", "e\u0301" * 9, "\u200b")


class Page(HTMLParser):
    """Text, tags and whether they nest."""

    void = ("meta", "img", "br", "source")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.wrong = "", ""
        self.feed(text)
        self.close()
        self.wrong = self.wrong or (f"never closed: {self.open}" if self.open else "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "iframe", "link") or any(name.startswith("on") for name, _ in attrs):
            self.wrong = f"{tag} {attrs}"
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong = self.wrong or f"{tag} is closed and was not open"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def results(classes: list[str], rng: Rng, clusters: int | None = None) -> dict[str, Any]:
    """Scores of three models, of a probe and two sets of clusters."""
    count = clusters or max(1, len(classes))
    values = rng.random((3, 3, len(classes))).tolist()
    return {
        "title": "Report",
        "classes": classes,
        "scores": {
            model: {
                name: {"miou": float(np.mean(v)), "accuracy": 0.5, "iou_per_class": v}
                for name, v in zip(("linear", "clusters", "clusters_99"), of, strict=True)
            }
            for model, of in zip(MODELS, values, strict=True)
        },
        "readouts": {
            "clusters": {"clusters": count, "matching": "hungarian"},
            "clusters_99": {"clusters": 99, "matching": "greedy"},
        },
    }


def _wrong(page: Path, given: Mapping[str, Any], terms: tuple[str, ...]) -> str | None:
    found = Page(page.read_text(encoding="utf-8"))
    if found.wrong:
        return found.wrong
    told = " ".join(found.text.split())
    names = [*map(printable, given.get("classes", ())), *terms]
    missing = [name for name in names if " ".join(name.split()) not in told]
    if missing:
        return f"not in the page: {missing[:3]}"
    tables = sum(tag == "table" for tag, _ in found.tags)
    scrolled = sum(attributes.get("class") == "hint" for _, attributes in found.tags)
    return "a table does not say that it scrolls" if scrolled < tables else None


TERMS = ("clusters, Hungarian", "99 clusters, greedy", "greedy matching", "Hungarian matching")
Change = Callable[[dict[str, Any], Rng], None]


def _report(
    classes: Callable[[Rng], list[str]],
    folder: Path,
    rng: Rng,
    *,
    change: Change = lambda given, rng: None,
    terms: tuple[str, ...] = (*TERMS, "mean over"),
) -> Action:
    given = results(classes(rng), rng)
    change(given, rng)
    out = folder / "report"
    return Action(
        run=lambda: write_report(out, given), check=lambda page: _wrong(page, given, terms)
    )


def _some(names: tuple[str, ...]) -> Callable[[Rng], list[str]]:
    return lambda rng: [str(n) for n in rng.permutation(names)[: int(rng.integers(1, len(names)))]]


def _long(rng: Rng) -> list[str]:
    return [
        letter * int(rng.integers(80, 400)) + str(i)
        for i, letter in enumerate(("x", "ab ", "é", "<", "&", "漢"))
    ]


def _many(rng: Rng) -> list[str]:
    return [f"class {i}" for i in range(int(rng.integers(200, 301)))]


def _few(rng: Rng) -> list[str]:
    return [f"class {i}" for i in range(int(rng.integers(2, 9)))]


def _values_missing(given: dict[str, Any], rng: Rng) -> None:
    for model in MODELS:
        for entry in given["scores"][model].values():
            values = entry["iou_per_class"]
            values[int(rng.integers(len(values)))] = [None, float("nan")][int(rng.integers(2))]
            entry[str(rng.choice(["miou", "accuracy"]))] = [None, float("nan")][
                int(rng.integers(2))
            ]


def _entries_missing(given: dict[str, Any], rng: Rng) -> None:
    scores = given["scores"]
    scores["random"]["linear"] = None
    scores["lab"] = [None, {}][int(rng.integers(2))]
    scores["trained"]["clusters"].pop(str(rng.choice(["miou", "accuracy"])))
    scores["trained"]["linear"]["iou_per_class"] = None


def _by_name(given: dict[str, Any], rng: Rng) -> None:
    for found in given["scores"].values():
        for entry in found.values():
            pairs = list(zip(given["classes"], entry["iou_per_class"], strict=True))
            kept = [pairs[i] for i in rng.permutation(len(pairs))[: int(rng.integers(1, 5))]]
            entry["iou_per_class"] = dict(kept)


def _other_models(given: dict[str, Any], rng: Rng) -> None:
    entry = given["scores"]["lab"]
    names = [str(rng.choice(HOSTILE)), str(rng.choice(FOREIGN)), "m" * 300]
    given["scores"] |= dict.fromkeys(names, entry)
    given["class_notes"] = {name: str(rng.choice(HOSTILE)) for name in given["classes"]}
    given["title"], given["summary"] = str(rng.choice(HOSTILE)), str(rng.choice(FOREIGN))
    odd = str(rng.choice(HOSTILE))
    given["config"] = given["versions"] = {odd: {"x": odd}}


def _counted(folder: Path, rng: Rng) -> Action:
    """The number of clusters is in the page, wherever it is to be found."""
    given = results(_few(rng), rng)
    count = int(rng.integers(2, 400))
    if rng.random() < 0.5:
        given["readouts"]["clusters"] = {"clusters": count}
    else:
        del given["readouts"]
        for found in given["scores"].values():
            found["clusters"]["mapping"] = [0] * count
    out = folder / "report"
    return Action(
        run=lambda: write_report(out, given),
        check=lambda page: _wrong(page, given, (f"{count} clusters",)),
    )


def _unknown_count(given: dict[str, Any], rng: Rng) -> None:
    del given["readouts"]


def _pictures(folder: Path, rng: Rng) -> Action:
    out = folder / "report"
    names = [f"{name}.png" for name in ("a b#c", "50%", "ümläut?", "照片", "it's", "<b>", "x&y")]
    size = (int(rng.integers(1, 300)), int(rng.integers(1, 3000)), 3)
    for name in names:
        save_png(np.zeros(size, np.uint8), out / "pictures" / name)
    caption = str(rng.choice([*HOSTILE, *FOREIGN]))

    def run() -> Path:
        narrow = f"pictures/{names[0]}"
        shown = tuple(Picture(f"pictures/{name}", caption, narrow) for name in names)
        plain = tuple(Picture(f"pictures/{name}", caption) for name in names)
        return write_report(
            out, {}, [Section(caption, caption, shown), Section("Plain", "", plain)]
        )

    def check(page: Path) -> str | None:
        found = Page(page.read_text(encoding="utf-8"))
        tags = [tag for tag, _ in found.tags]
        if tags.count("source") != len(names) or tags.count("img") != 2 * len(names):
            return "a picture is missing"
        return found.wrong or None

    return Action(run=run, check=check)


def _confusion(folder: Path, rng: Rng) -> Action:
    classes = [*_some(HOSTILE)(rng), *_some(FOREIGN)(rng), "c" * 300, "$\\frac{", "a$\\frac$c"]
    matrix = rng.integers(0, 99, (len(classes), len(classes)))
    path = folder / "confusion.png"
    return Action(
        run=lambda: plot_confusion(matrix, classes, path, str(rng.choice(HOSTILE))),
        check=lambda found: None if found.stat().st_size else "nothing is drawn",
    )


def _curves(folder: Path, rng: Rng) -> Action:
    keys = ("loss", "loss_over_lnk", "perplexity", "regions_per_view", "discarded_share", "lr")
    odd = (None, float("nan"), float("inf"), 0.0, 1e30, "text", -5)
    records = [
        {"iteration": i, **{k: float(rng.random()) for k in keys}}
        for i in range(int(rng.integers(1, 20)))
    ]
    for record in records:
        record[str(rng.choice(keys))] = odd[int(rng.integers(len(odd)))]
    records = [{**record, str(rng.choice(keys)): "text"} for record in records]
    records.append({"loss": 1.0, "loss_over_lnk": 0.5})
    columns = int(rng.choice([1, 3]))
    return Action(
        run=lambda: plot_curves(records, folder / "curves.png", columns=columns),
        check=lambda found: None if found.stat().st_size else "nothing is drawn",
    )


def _worked(make: Make) -> tuple[Expected, Make]:
    return "worked", make


FAMILY = Family(
    GROUP,
    {
        "markup": _worked(partial(_report, _some(HOSTILE))),
        "foreign": _worked(partial(_report, _some(FOREIGN))),
        "long-names": _worked(partial(_report, _long)),
        "one-class": _worked(partial(_report, lambda rng: ["all"])),
        "many-classes": _worked(partial(_report, _many)),
        "values-missing": _worked(partial(_report, _few, change=_values_missing)),
        "entries-missing": _worked(partial(_report, _few, change=_entries_missing)),
        "values-by-name": _worked(partial(_report, _few, change=_by_name)),
        "other-models": _worked(partial(_report, _few, change=_other_models)),
        "counted": _worked(_counted),
        "unknown-count": _worked(
            partial(_report, _few, change=_unknown_count, terms=("how many is not recorded",))
        ),
        "pictures": _worked(_pictures),
        "confusion": _worked(_confusion),
        "curves": _worked(_curves),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

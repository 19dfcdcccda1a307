"""Which files of a folder are images, which are their labels, and which split they are of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vice.datasets.described.file_units import (
    RARELY,
    Unit,
    all_units,
    by_folder,
    cut_to,
    labels_inside,
    split_named,
    without_labels,
)
from vice.datasets.described.label_likeness import holds_labels
from vice.datasets.described.placing import Placed, place
from vice.datasets.described.sample_folders import find_samples


def find_pairings(root: Path, names: Sequence[str]) -> tuple[list[Placed], list[str]]:
    """Finds images and their labels among the files of a folder.

    Args:
        root: The folder.
        names: Files below it, with ``/``, as `vice.datasets.described.templates.walk` lists them.

    Returns:
        Where images and labels of each split lie; and a line for each choice between several.
    """
    samples, names, notes = find_samples(root, names)
    units = all_units(names)
    # Mixed folders first: as a whole they may look like either.
    inside = labels_inside(root, units)
    units = [unit for unit in (without_labels(unit, inside) for unit in units) if unit.stems]
    labels = [unit for unit in units if holds_labels(unit.files(root))]
    images = by_folder(unit for unit in units if unit not in labels)
    labels += inside
    chosen: dict[str, list[tuple[Unit, Unit]]] = defaultdict(list)
    for label in labels:
        best = _best_images(label, images)
        if best is not None:
            chosen[best[0].folder].append(best)
    pairs = []
    for options in chosen.values():
        options = _by_suffixes(options)
        options.sort(
            key=lambda option: (
                option[1].label_rank[0],
                -len(option[0].stems & option[1].stems),
                option[1].label_rank,
            )
        )
        if len(options) > 1:
            others = ", ".join(option[1].shown for option in options[1:])
            notes.append(f"labels are {options[0][1].shown}; others that would fit: {others}")
        pairs.append(options[0])
    used = {pair[0].folder for pair in pairs}
    for _, chosen_labels in pairs:
        of_split = split_named(chosen_labels.folder)
        rest = [
            unit.folder or "."
            for unit in images
            if unit.folder not in used
            and len(unit.stems & chosen_labels.stems) * 2 > len(chosen_labels.stems)
            and split_named(unit.folder) == of_split
        ]
        if rest:
            notes.append(f"other images that would fit {chosen_labels.shown}: {', '.join(rest)}")
    return [*samples, *place(pairs)], notes


def _by_suffixes(options: list[tuple[Unit, Unit]]) -> list[tuple[Unit, Unit]]:
    """Labels of one folder whose files differ in their suffix alone, as one."""
    grouped: dict[tuple[str, str, str], list[tuple[Unit, Unit]]] = defaultdict(list)
    for option in options:
        label = option[1]
        grouped[label.folder, label.before, label.after].append(option)
    found = []
    for (folder, before, after), parts in grouped.items():
        if len(parts) == 1 or folder == parts[0][0].folder:
            found += parts
            continue
        stems = frozenset().union(*(label.stems for _, label in parts))
        found.append((parts[0][0], Unit(folder, ".*", before, after, stems)))
    return found


def _best_images(label: Unit, images: Sequence[Unit]) -> tuple[Unit, Unit] | None:
    """The images that labels belong to, and the labels with what is added to their names."""
    best, most = None, (-len(RARELY), 0, 0)
    of_label = split_named(label.folder)
    for unit in images:
        of_unit = split_named(unit.folder)
        if of_label and of_unit and of_label != of_unit:
            continue
        cut = label if label.before or label.after else cut_to(label, unit)
        shared = len(cut.stems & unit.stems)
        # Nearness: of folders with the same names in them, the one with the same parts of its path.
        parts = [set(each.folder.lower().split("/")) for each in (label, unit)]
        # Color images are called rgb as well as pictures of labels are.
        rarely = sum(word in unit.folder.lower() for word in RARELY if word != "rgb")
        fits = shared and shared * 2 >= min(len(cut.stems), len(unit.stems))
        score = -rarely, shared, len(parts[0] & parts[1])
        if fits and score >= most:
            best, most = (unit, cut), score
    return best

"""``vice select``: which images of a folder to label first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vice.cli import Parser, number, show, whole
from vice.command.inputs import (
    Inputs,
    Stops,
    add_computing,
    add_places,
    begin,
    kept_in,
    show_readings,
    show_unread,
)
from vice.errors import UserError
from vice.names import name_bytes, printable
from vice.parts import check_packages
from vice.runtime.files import read_json
from vice.runtime.own_folder import keep_kinds_apart
from vice.runtime.run_folder import SELECTION_RECORD_NAME

EXAMPLE = """\
example:
  vice select outputs/folder photos -n 50 --out selected

selected/selected.txt has a path a line, the most telling image first: a list that vice segment and
vice train take. selected/selection.json has near-duplicates, outliers, and how much is covered.
"""
LIST, RECORD = "selected.txt", SELECTION_RECORD_NAME
#: What an earlier list was made with, where it was another one.
_OTHER = {
    "number": "another -n",
    "duplicates": "other --duplicates",
    "seed": "another --seed",
    "weights": "another model",
    "images": "other images",
}
#: Said where it is stopped.
KEPT = "what was computed of the images stays in --out, and the same command goes on"


def keep_earlier(out: Path, asked: Mapping[str, Any]) -> None:
    """Refuses to write another list over one that somebody may be labelling by.

    Args:
        out: The output folder.
        asked: What the list follows from, as far as it is known.

    Raises:
        UserError: A list was made otherwise, or changed since.
    """
    if not (out / LIST).exists():
        return
    remedy = "delete it, or choose another output folder"
    known = read_json(out / RECORD, remedy) if (out / RECORD).exists() else {}
    made = known.get("asked")
    written = printable((out / LIST).read_text(encoding="utf-8", errors="surrogateescape"))
    listed = printable("".join(f"{path}\n" for path in known.get("selected", [])))
    if not isinstance(made, dict) or written != listed:
        raise UserError(f"{out / LIST} is another list than this command has written: {remedy}")
    other = next((key for key in asked if made.get(key) != asked[key]), None)
    if other is not None:
        raise UserError(f"{out / LIST} was selected with {_OTHER[other]}: {remedy}")


def digest_names(paths: Sequence[str]) -> str:
    """SHA-256 of paths in their order."""
    return hashlib.sha256(name_bytes("".join(f"{path}\n" for path in paths))).hexdigest()


def main() -> None:
    """Selects; the command line is that of the process."""
    parser = Parser(
        description="Chooses images that show as much as possible of what all show.",
        epilog=EXAMPLE,
    )
    add_places(parser, videos=False)
    add = parser.add_argument
    add("-n", "--number", type=whole(1, 10**6), required=True, metavar="N", help="how many")
    add("--duplicates", type=number(0, 1), default=0.95, metavar="S",
        help="similarity from which images are near-duplicates (0.95)")  # fmt: skip
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of the kinds of regions (0)")
    add_computing(parser)
    args = parser.parse_args()
    asked = {"number": args.number, "duplicates": args.duplicates, "seed": args.seed}

    def look(inputs: Inputs) -> None:
        if args.number > len(inputs.images):
            there = len(inputs.images)
            raise UserError(
                f"{args.number} images are wanted, and there are {there}: ask for fewer, since "
                "near-duplicates and what cannot be read are left out, or name more folders"
            )
        broken = [path for path in inputs.images if {"\n", "\r"} & set(str(path))]
        if broken:
            raise UserError(
                f"the names of {len(broken)} images hold line breaks, as that of "
                f"{printable(str(broken[0]))} does, and a list has a name a line: rename them"
            )
        keep_kinds_apart(args.out, RECORD)
        keep_earlier(args.out, asked)

    check_packages("faiss")
    inputs, predictor = begin(args, look)
    images = inputs.images
    paths = [str(path.absolute()) for path in images]
    # Imported late: help does without PyTorch.
    from vice.explore.kept_pass import KeptPass, PassStopped
    from vice.explore.select_images import select_images
    from vice.models.load import unfinished
    from vice.runtime.files import write_json, write_text
    from vice.runtime.folder_lock import sole_writer

    asked |= {"weights": predictor.weights, "images": digest_names(paths)}
    with Stops() as stops, sole_writer(args.out):
        keep_earlier(args.out, asked)
        kept = KeptPass.of(args.out, predictor, images, 0, memory=args.memory)
        try:
            found = select_images(
                predictor, images, args.number, duplicates=args.duplicates, seed=args.seed,
                memory=args.memory, kept=kept, stopped=stops,
            )  # fmt: skip
        except PassStopped as stop:
            stops.stop(stop.done, len(images), kept_in(args.out))
        write_text(args.out / LIST, "".join(f"{paths[number]}\n" for number in found.chosen))
        record = {
            "model": predictor.name,
            "selected": [printable(paths[number]) for number in found.chosen],
            "coverage": found.coverage,
            "coverage_at_random": found.random,
            "near_duplicates": [[printable(paths[k]) for k in group] for group in found.duplicates],
            "outliers": {printable(paths[k]): value for k, value in found.outliers.items()},
            "unread": {printable(paths[k]): reason for k, reason in found.unread.items()},
            "asked": asked,
        }
        if early := unfinished(predictor.embedder):
            record["unfinished"] = early
        write_json(args.out / RECORD, record)
        kept.forget()
    read = len(images) - len(found.unread)
    show(f"{len(found.chosen)} of {read} images in {printable(str(args.out / LIST))}")
    show(
        f"they cover {100 * found.coverage[-1]:.1f} % of what all do; as many at random "
        f"{100 * found.random:.1f} %"
    )
    repeated = sum(len(group) - 1 for group in found.duplicates)
    show(f"near-duplicates of others: {repeated}; outliers: {len(found.outliers)}")
    show_readings(predictor)
    show_unread(found.unread)

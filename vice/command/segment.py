"""``vice segment``: masks of a folder of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vice.cli import Parser, share, show, whole
from vice.command.fitting import CONCEPTS_NAME, fitted_concepts
from vice.command.inputs import (
    Inputs,
    Stops,
    add_computing,
    add_places,
    begin,
    given_concepts,
    own_concepts,
    show_readings,
    show_unread,
)
from vice.explore.embedding_formats import PACKAGE_OF
from vice.explore.in_order import WORKERS
from vice.names import printable
from vice.parts import check_packages
from vice.paths import typed_path
from vice.runtime.own_folder import keep_kinds_apart
from vice.runtime.run_folder import MASKS_RECORD_NAME

if TYPE_CHECKING:
    from vice.explore.named_concepts import NamedConcepts
    from vice.predictor import Predictor

EXAMPLE = """\
examples:
  vice segment outputs/folder photos --out masks
  vice segment timm:vit_small_patch16_224.dino@FILE photos --clusters 12 --out masks
  vice segment outputs/folder photos --concepts masks/concepts.safetensors --out more
  vice segment outputs/folder photos --concepts concepts.json --out named
  vice segment outputs/folder photos --clusters 12 --out masks --part 2/4

masks/NAME.png has a pixel's concept as its value, overlays/NAME.jpg shows it over the image, and
summary.csv has each concept's share of each image; of GeoTIFFs georeferenced/NAME.tif is the mask
with their georeference. The same command goes on where it was stopped.
"""
#: How much the masks of videos change.
VIDEOS_NAME = "videos.json"
#: Said where it is stopped.
KEPT = "masks that are written stay, and the same command goes on"


def main() -> None:
    """Segments; the command line is that of the process."""
    parser = Parser(
        description="Gives each pixel of a folder's images its most similar concept.",
        epilog=EXAMPLE,
    )
    add_places(parser, videos=True)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--clusters", type=whole(1, 65536), metavar="K",
        help="fit so many concepts to the images (the model's own concepts)")  # fmt: skip
    which.add_argument("--concepts", type=typed_path, metavar="FILE",
        help="concepts.json of vice explore, or what a call or scoring has fitted")  # fmt: skip
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of fitted concepts (0)")
    add("--workers", type=whole(0, 64), default=WORKERS, metavar="N",
        help=f"threads that read images and write masks beside the model ({WORKERS})")  # fmt: skip
    add("--part", type=share, metavar="K/N",
        help="every N-th image from the K-th on, beside other processes")  # fmt: skip
    add("--no-overlays", action="store_true", help="write the masks alone")
    add("--embeddings", choices=PACKAGE_OF, metavar="FORMAT",
        help="also write the embeddings in half precision, at the network's stride: " +
        ", ".join(PACKAGE_OF))  # fmt: skip
    add_computing(parser)
    args = parser.parse_args()
    if "seed" in parser.given and args.clusters is None:
        parser.error("--seed is of fitted concepts: give --clusters, too, or leave it out")
    # Frames of videos are written, and images embedded, before anything is fitted or written.
    if args.clusters is not None and not (args.out / CONCEPTS_NAME).exists():
        check_packages("faiss")
    if package := PACKAGE_OF.get(args.embeddings):
        check_packages(package)
    inputs, predictor = begin(args, lambda _: keep_kinds_apart(args.out, MASKS_RECORD_NAME))
    images = inputs.images
    # Imported late: help does without PyTorch.
    from vice.explore.mask_way import GEOREFERENCED
    from vice.explore.segment_folder import segment_folder

    with Stops() as stops:
        concepts = _concepts(args, predictor, images, stops)
        # What was read to fit concepts is read again.
        predictor.forget_readings()
        found = segment_folder(
            predictor, images, args.out, concepts, overlays=not args.no_overlays,
            embeddings=args.embeddings, memory=args.memory, workers=args.workers, part=args.part,
            stopped=stops,
        )  # fmt: skip
        if found.left:
            seen = found.done + len(found.unread)
            masks = f"{found.done} masks stay in {printable(str(args.out))}"
            stops.stop(seen, seen + found.left, masks)
    shown = f"{found.done} masks of {len(found.names)} concepts in {printable(str(args.out))}"
    if found.reused:
        shown += f" ({found.reused} were there)"
    show(shown)
    common = found.shares.argsort()[::-1][:5]
    said = [f"{found.names[k]} {100 * found.shares[k]:.1f} %" for k in common]
    show("most common: " + ", ".join(said))
    if concepts.void is not None:
        show(f"dropped: {100 * found.dropped:.1f} % of the pixels are {concepts.void} in the masks")
    if found.georeferenced:
        show(f"georeference kept: {found.georeferenced} masks in {GEOREFERENCED}")
    if args.part is None:
        for line in _changes(inputs, args.out):
            show(line)
    show_readings(predictor)
    show_unread(found.unread)


def _changes(inputs: Inputs, out: Path) -> list[str]:
    """How much the masks of videos change from frame to frame, which also goes to a file."""
    from vice.explore.mask_way import MASKS
    from vice.explore.video_frames import mask_changes
    from vice.runtime.files import write_json

    found = {
        name: mask_changes(frames, inputs.images, out / MASKS)
        for name, frames in inputs.videos.items()
    }
    if found:
        write_json(out / VIDEOS_NAME, {name: each.to_dict() for name, each in found.items()})
    return [
        f"{printable(name)}: {each.frames} frames; {100 * each.mean:.1f} % of the pixels change "
        f"concept from a frame to the next ({100 * each.most:.1f} % at most)"
        for name, each in found.items()
    ]


def _concepts(
    args: argparse.Namespace, predictor: Predictor, images: list[Path], stops: Stops
) -> NamedConcepts:
    if args.clusters is None:
        return own_concepts(predictor) if args.concepts is None else given_concepts(
            args.concepts, predictor
        )  # fmt: skip
    return fitted_concepts(args, predictor, images, stops)

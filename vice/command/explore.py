"""``vice explore``: a page on which the concepts of a folder are looked at and named."""

from __future__ import annotations

from vice.cli import Parser, show, whole
from vice.command.inputs import (
    Stops,
    add_computing,
    add_places,
    begin,
    given_concepts,
    kept_in,
    own_concepts,
    show_readings,
    show_unread,
)
from vice.explore.explorer_files import ExplorerFiles
from vice.names import printable
from vice.parts import check_packages
from vice.paths import typed_path

EXAMPLE = """\
examples:
  vice explore outputs/folder photos --out explorer
  vice explore outputs/folder photos --concepts concepts.json --out explorer     # go on naming
  vice segment outputs/folder photos --concepts concepts.json --out masks

Open explorer/index.html in a browser: it needs no server and no network. Click a pixel to see what
is similar to it; name, merge, split or drop concepts; and download concepts.json.
"""
#: Concepts that are fitted if nothing is said.
CLUSTERS = 24
#: Said where it is stopped.
KEPT = "what was computed of the images stays in --out, and the same command goes on"


def main() -> None:
    """Writes the explorer; the command line is that of the process."""
    parser = Parser(
        description="Makes a page that shows what a model sees in a folder's images.",
        epilog=EXAMPLE,
    )
    add_places(parser, videos=True)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--clusters", type=whole(1, 1024), default=CLUSTERS, metavar="K",
        help=f"begin with so many concepts, fitted to the images ({CLUSTERS})")  # fmt: skip
    which.add_argument("--concepts", type=typed_path, metavar="FILE",
        help="begin with concepts.json, or with concepts that an earlier call fitted")  # fmt: skip
    which.add_argument("--own", action="store_true", help="begin with the model's own concepts")
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of samples and fitted concepts (0)")
    add_computing(parser)
    args = parser.parse_args()
    if args.concepts is None and not args.own:
        # Frames of videos are written, and images embedded, before anything is fitted.
        check_packages("faiss")
    inputs, predictor = begin(args, lambda _: ExplorerFiles(args.out))
    images = inputs.images
    # Imported late: help does without PyTorch.
    from vice.explore.build_explorer import build_explorer
    from vice.explore.kept_pass import PassStopped

    concepts = None
    if args.concepts is not None:
        concepts = given_concepts(args.concepts, predictor)
    elif args.own:
        concepts = own_concepts(predictor)
    with Stops() as stops:
        try:
            made = build_explorer(
                predictor, images, args.out, clusters=args.clusters, concepts=concepts,
                seed=args.seed, memory=args.memory, stopped=stops,
            )  # fmt: skip
        except PassStopped as stop:
            stops.stop(stop.done, len(images), kept_in(args.out))
    show(f"{made.images} images and {made.concepts} concepts: open {printable(str(made.page))}")
    show(made.exactness)
    show_readings(predictor)
    show_unread(made.unread)

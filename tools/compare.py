#!/usr/bin/env python
"""Puts results directories side by side, mean and standard deviation over seeds.

Results that were not taken in the same way get tables of their own, and a line says what differs.
Rows of one table are paired over the same resamples of the scored images: which differences to the
first row (or the one that --against names) lie within chance. The positional bias, outlines and
named masks (score_masks.py) get tables of their own. Of a folder that holds such directories, as
score.py's does, all are taken, with its own results if it has any.

Examples:
    python tools/compare.py outputs/msrc21/*
    python tools/compare.py outputs/msrc21/* --out table.html
    python tools/compare.py outputs/eval/* --row 'ViCE=outputs/seed*' --row 'colour=lab'
"""

from vice.cli import Parser, run
from vice.paths import check_there, typed_path
from vice.runtime.answers import answer
from vice.runtime.files import check_folder, write_text


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("folders", nargs="+", type=typed_path, metavar="DIR", help="results directories")
    add("--out", type=typed_path, help="file to write, .md or .html (the terminal)")
    add(
        "--row",
        action="append",
        default=[],
        metavar="NAME=PATTERN",
        help="put all embedders whose name matches into one row",
    )
    add("--against", metavar="ROW", help="row that the others are paired with (the first)")
    args = parser.parse_args()
    if args.out is not None:
        if args.out.suffix not in (".md", ".html"):
            parser.error(f"--out {args.out}: name a file that ends in .md or .html")
        check_folder("--out", args.out.parent)
    for folder in args.folders:
        check_there(folder, what="results directory")
    from vice.evaluation.compare import make_tables, row_names
    from vice.evaluation.scored_folders import divide_folders, read_results, spread

    names, (folders, own) = row_names(args.row), divide_folders(spread(args.folders))
    results = read_results(folders) if folders or not own else []
    # PyTorch takes seconds to import, and neither help nor a refusal needs it.
    from vice.evaluation.comparison_page import to_html, to_markdown
    from vice.evaluation.own_tables import make_own_tables, own_sections
    from vice.evaluation.paired import pair_tables, pairing_sections

    further = own_sections(make_own_tables(own, names), args.against)
    tables = make_tables(results, names) if results else []
    paired = pairing_sections(pair_tables(tables, args.against)) if tables else []
    paired += further
    if args.out is None:
        answer(to_markdown(tables, paired).removesuffix("\n"))
    else:
        to_page = to_html if args.out.suffix == ".html" else to_markdown
        write_text(args.out, to_page(tables, paired))


if __name__ == "__main__":
    run(main)

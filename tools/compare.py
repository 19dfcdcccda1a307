#!/usr/bin/env python
"""Puts results directories side by side, mean and standard deviation over seeds.

Results that were not taken in the same way get tables of their own, and a line says what differs.

Examples:
    python tools/compare.py outputs/msrc21/*
    python tools/compare.py outputs/msrc21/* --out table.html
    python tools/compare.py outputs/eval/* --row 'ViCE=outputs/seed*' --row 'colour=lab'
"""

import argparse

from vice.cli import Parser, run
from vice.evaluation.compare import make_tables, read_results, row_names, to_html, to_markdown
from vice.paths import typed_path
from vice.runtime.files import write_text


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    args = parser.parse_args()
    tables = make_tables(read_results(args.folders), row_names(args.row))
    if args.out is None:
        print(to_markdown(tables), end="")
    else:
        page = to_html(tables) if args.out.suffix == ".html" else to_markdown(tables)
        write_text(args.out, page)


if __name__ == "__main__":
    run(main)

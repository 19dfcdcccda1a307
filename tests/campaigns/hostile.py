#!/usr/bin/env python
"""Feeds ViCE bad input of every kind and counts what comes of it; a tool for developers.

Each case works, or is refused with one line that names the file or key and a status that is not
0. Everything else is a finding, and any finding makes this end with status 1: a traceback, no
message, a hang, a wrong result, a file that was there and is changed or gone, or code that ran.

Examples:
    python -m tests.campaigns.hostile                                # about 1,200 cases
    python -m tests.campaigns.hostile --only checkpoints --cases 300 --seed 7 --keep findings
"""

import argparse
import logging
from pathlib import Path

from vice import cli
from vice.errors import UserError


def main() -> int:
    try:
        from tests.hostile.campaign import GROUPS, choose, run, table
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error}: the cases lie in tests/ of a checkout, run this there"
        ) from error
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = [module.GROUP for module in GROUPS]
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=1200, help="about so many (1200)")
    parser.add_argument("--only", choices=groups, help="one group")
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    parser.add_argument("--verbose", action="store_true", help="show what came of every case")
    args = parser.parse_args()
    logging.disable(logging.WARNING)

    def report(case, verdict) -> None:
        if args.verbose or not verdict.fine:
            print(f"{case.group}: {case.name}: {verdict.kind}: {verdict.detail}", flush=True)

    chosen = choose(args.seed, args.cases, args.only)
    found = run(chosen, args.seed, report, args.keep)
    print(table(found))
    return int(not all(verdict.fine for _, verdict in found))


if __name__ == "__main__":
    cli.run(main)

#!/usr/bin/env python
"""Kills a small training again and again, resumes it, and compares it with one left in peace.

Takes some ten seconds a kill; prints a table. Run it from a checkout: it uses the tests' helpers.

Examples:
    python -m tests.campaigns.kill_runs --kills 30 --ranks 1 2 --seed 0
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.helpers.kills import MOMENTS, differences, kill_and_resume, undisturbed
from tests.plugins.vissl.conftest import overrides, write_images
from vice.cli import run


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="for each number of ranks (30)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(
        "| ranks | killed | at the start | in a step | while writing | half written | runs | same |"
    )
    print("|---|---|---|---|---|---|---|---|")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder) / "images")
        for ranks in args.ranks:
            alone = Path(folder) / f"alone{ranks}"
            undisturbed(overrides(images, alone), alone, ranks)
            kills, runs, same = [], 0, 0
            while len(kills) < args.kills:
                out = Path(folder) / f"killed{ranks}_{runs}"
                left = args.kills - len(kills)
                arguments = overrides(images, out)
                kills += kill_and_resume(arguments, out, ranks, left, args.seed + runs)
                same += not differences(alone, out)
                runs += 1
            count = Counter(kill.moment for kill in kills)
            half = sum(kill.half_written > 0 for kill in kills)
            row = [ranks, len(kills), *(count[moment] for moment in MOMENTS)]
            print("|", " | ".join(map(str, [*row, half, runs, same])), "|", flush=True)
            wrong += runs - same
    return 1 if wrong else 0


if __name__ == "__main__":
    run(main)

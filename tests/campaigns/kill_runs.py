#!/usr/bin/env python
"""Kills a small training again and again, resumes it, and compares it with one left in peace.

Takes some ten seconds a kill; prints a table. Run it from a checkout: it uses the tests' helpers.

Examples:
    python -m tests.campaigns.kill_runs --kills 30 --ranks 1 2 --seed 0
    python -m tests.campaigns.kill_runs --kills 8 --ranks 2 --config maskcontrast_folder
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.helpers.kills import MOMENTS, differences, kill_and_resume, undisturbed
from tests.plugins.vissl.conftest import overrides, write_images
from tests.plugins.vissl.test_clusterings import TINY
from vice.cli import run

#: What each configuration but ViCE's own needs to be small, beside what they have in common.
SMALL = {
    "picie_folder": (),
    "mdc_folder": (),
    "iic_folder": ("config.VICE.METHOD.crop_side=48", "config.VICE.METHOD.displacement=3"),
    "maskcontrast_folder": (
        "config.VICE.METHOD.view_side=48",
        "config.VICE.METHOD.queue_keys=6",
        "config.VICE.METHOD.clusters=2",
        "config.VICE.METHOD.pass_images=2",
        "config.VICE.FOREGROUND.source=builtin",
        "config.MODEL.TRUNK.VICE.frozen=true",
    ),
}
#: What a run of the campaign sets itself.
_ITS_OWN = ("BATCHSIZE", "num_epochs", "ITER_FREQUENCY")


def small_run(config: str, images: Path, out: Path) -> list[str]:
    """Hydra overrides of a run of a configuration that takes seconds."""
    if config == "folder":
        return overrides(images, out)
    methods = config.startswith(("picie", "mdc"))
    common = {
        key: value
        for key, value in TINY.items()
        if (methods or "METHOD" not in key) and not any(part in key for part in _ITS_OWN)
    }
    return [
        f"config=vice/{config}",
        f"config.DATA.TRAIN.DATA_PATHS=[{images}]",
        f"config.CHECKPOINT.DIR={out}",
        *(f"config.{key}={value}" for key, value in common.items()),
        *SMALL[config],
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="for each number of ranks (30)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--config", default="folder", choices=["folder", *SMALL], help="what is trained (folder)"
    )
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
            undisturbed(small_run(args.config, images, alone), alone, ranks)
            kills, runs, same = [], 0, 0
            while len(kills) < args.kills:
                out = Path(folder) / f"killed{ranks}_{runs}"
                left = args.kills - len(kills)
                arguments = small_run(args.config, images, out)
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

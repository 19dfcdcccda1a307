#!/usr/bin/env python
r"""Makes the superpixels of a training's images ahead of it.

Training fills the same cache during its first epoch, if the folder is set; this does it with all
cores, and on many machines as a job array (--shard, or SLURM's own numbers).

Examples:
    python tools/cache_superpixels.py config=vice/coco_highres --workers 16 \
        config.VICE.SUPERPIXELS.cache_dir=data/superpixels
"""

import os
from pathlib import Path

from vice.cli import IN_CONFIG, Parser, run, show, whole
from vice.errors import UserError
from vice.names import printable
from vice.paths import check_config

#: Said where it is stopped.
KEPT = "maps that are made stay, and the same command goes on"


def main() -> int:
    parser = Parser(description=__doc__, otherwise=IN_CONFIG)
    number = os.environ.get("SLURM_ARRAY_TASK_ID", "0")
    count = os.environ.get("SLURM_ARRAY_TASK_COUNT", "1")
    parser.add_argument("overrides", nargs="+", metavar="config=NAME KEY=VALUE")
    parser.add_argument(
        "--workers", type=whole(1, 1024), default=os.cpu_count() or 1, help="processes (all)"
    )
    parser.add_argument("--shard", default=f"{number}/{count}", help="i/n: each n-th image (0/1)")
    args = parser.parse_intermixed_args()
    first, _, shards = args.shard.partition("/")
    if not (first.isdigit() and shards.isdigit()):
        parser.error(f"--shard {args.shard} is not i/n, for example 0/16")
    if int(first) >= int(shards):
        parser.error(f"--shard {args.shard}: of {shards} shards the last is {int(shards) - 1}")
    check_config(args.overrides)
    # Importing VISSL takes seconds, and help needs none of it.
    from vice.images import list_images, reading_of
    from vice.plugins.vissl.config.checks import check_values
    from vice.plugins.vissl.config.compose import compose
    from vice.plugins.vissl.config.image_reading import set_reading
    from vice.plugins.vissl.config.inputs import announce_data, check_data
    from vice.plugins.vissl.option_keys import spelled
    from vice.superpixels.fill import fill_cache

    composed = compose(args.overrides)
    check_values(composed)
    config = composed.config
    check_data(config)
    announce_data(config)
    set_reading(config)
    paths = [file for folder in config.DATA.TRAIN.DATA_PATHS for file in list_images(Path(folder))]
    with spelled():
        report = fill_cache(
            paths,
            config.VICE.STANDARDIZE,
            config.VICE.SUPERPIXELS,
            workers=args.workers,
            shard=(int(first), int(shards)),
            reading=reading_of(config.VICE),
        )
    kept = report.images - len(report.broken) - len(report.unwritten)
    each = report.size / max(1, kept) / 1024
    show(f"{report.images} images, {report.made} new maps, {each:.1f} KiB each")
    if report.broken:
        show(f"{kept} images have a map, {len(report.broken)} are left out")
    for message in report.broken[:10]:
        show(f"cannot be read: {printable(message)}")
    if report.unwritten:
        raise UserError(
            f"cannot write {len(report.unwritten)} of {report.images} maps into "
            f"{config.VICE.SUPERPIXELS.cache_dir}: {report.unwritten[0]}; free some space or "
            "choose another folder, and repeat the call: it makes what is missing"
        )
    return 0


if __name__ == "__main__":
    run(main, kept=KEPT)

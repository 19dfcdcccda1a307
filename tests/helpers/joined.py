"""A command line for tests: its processes join, add up their ranks, and fail as they are told."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from vice.cli import Parser, run
from vice.errors import UserError
from vice.runtime.collectives import all_reduce_, on_first_rank, rank, wait_for_all, world_size
from vice.runtime.rendezvous import join_from_environment


def main() -> None:
    parser = Parser()
    ways = ["well", "late", "all", "second", "checked", "bug", "first bug"]
    parser.add_argument("how", choices=ways)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--file", type=Path, help="written by the second, removed by the first")
    args = parser.parse_args()
    how = args.how
    logging.getLogger(__name__).info("starting")
    with join_from_environment(args.device) as device:
        if how == "all" or (how == "second" and rank() == 1):
            raise UserError("x.png: broken; remove it")
        if how == "bug" and rank() == 1:
            raise ValueError("a bug")
        if how == "late" and rank() == 1:
            time.sleep(2)
            args.file.touch()
        if how == "late":
            wait_for_all()
            on_first_rank(args.file.unlink)
        on_first_rank(lambda: check(how))
        total = int(all_reduce_(torch.tensor(rank() + 1)))
        ranks = world_size()
    sys.stdout.write(f"{device}: sum {total} of {ranks}, joined now: {dist.is_initialized()}\n")


def check(how: str) -> None:
    if how == "checked":
        raise UserError("y.png: broken; remove it")
    if how == "first bug":
        raise ValueError("a bug")


if __name__ == "__main__":
    run(main, joins=True)

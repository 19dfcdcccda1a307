"""A command line for tests: its processes join, add up their ranks, and fail as they are told."""

from __future__ import annotations

import logging
import sys

import torch
import torch.distributed as dist

from vice.cli import Parser, run
from vice.errors import UserError
from vice.runtime.collectives import all_reduce_, on_first_rank, rank, world_size
from vice.runtime.rendezvous import join_from_environment


def main() -> None:
    parser = Parser()
    parser.add_argument("how", choices=["well", "all", "second", "checked", "bug", "first bug"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    how = args.how
    logging.getLogger(__name__).info("starting")
    with join_from_environment(args.device) as device:
        if how == "all" or (how == "second" and rank() == 1):
            raise UserError("x.png: broken; remove it")
        if how == "bug" and rank() == 1:
            raise ValueError("a bug")
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

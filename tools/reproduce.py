#!/usr/bin/env python
"""Runs a table of the papers: trains its rows, scores them, and writes it beside the figures.

What is done is skipped and what was stopped goes on, so the same command can be repeated. The
written table grows row by row, and has the rows that earlier calls have done. Rows with the same
training share it, between tables too. A row that fails ends no other; the exit status is then 1.

Examples:
    python tools/reproduce.py --list
    python tools/reproduce.py main --seeds 3 --slurm config.SLURM.PARTITION=gpu
    python tools/reproduce.py ablation_lowres --scale small --dataset data/msrc21 --seeds 3
    python tools/reproduce.py domain --scale tiny --dataset coco27=A --dataset cityscapes19=B
    python tools/reproduce.py frozen --weights path/to/weights
    python tools/reproduce.py methods --curve --row PiCIE --row MDC --readout clusters
    python tools/reproduce.py element_size --row 'grid*' --row '*20 px'
    for k in 1 2 3 4; do python tools/reproduce.py methods --seeds 3 --part $k/4 & done; wait
"""

import argparse
from pathlib import Path

from vice.cli import IN_CONFIG, Parser, run, share, show, whole
from vice.datasets import DATASETS, open_dataset
from vice.experiments.reproduce.overrides import check_overrides
from vice.experiments.reproduce.plan import ReproducePlan, parse_datasets
from vice.experiments.reproduce.tables import (
    check_needs,
    comes_along,
    load_scale,
    load_table,
    select_readouts,
    select_rows,
    table_names,
)
from vice.paths import typed_path, typed_text
from vice.runtime.answers import answer
from vice.runtime.device_names import NAMES, check_device, check_device_name
from vice.runtime.files import check_folder

#: Said where it is stopped.
KEPT = "rows that are done stay, and the same command goes on"


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, otherwise=IN_CONFIG)
    add = parser.add_argument
    add("table", nargs="?", help="name of a table, see --list")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides of every training")
    add("--list", action="store_true", help="list the tables and their rows, and end")
    add("--row", action="append", default=[], metavar="PATTERN",
        help="run only rows of such names, and the table's baseline, if it has one, which the "
        "others are compared with")  # fmt: skip
    add("--readout", action="append", default=[], metavar="NAME",
        help="evaluate in such ways only: linear, clusters, retrieval ...")  # fmt: skip
    add("--scale", default="full", help="tiny, small, quick or full: the papers' setting (full)")
    add("--dataset", action="append", default=[], metavar="[NAME=]DATASET",
        help="data set in place of the benchmarks, or of one of them")  # fmt: skip
    add("--data-root", type=typed_text,
        help="folder above the benchmarks' folders (VICE_DATA, or data)")  # fmt: skip
    add("--seeds", type=whole(1, 1000), default=1, help="how many seeds, from 0 (1)")
    add("--part", type=share, metavar="K/N",
        help="every N-th run from the K-th on, beside other processes; the same command without "
        "it then writes the whole table")  # fmt: skip
    add("--slurm", action="store_true", help="submit trainings; the next call goes on")
    add("--out", type=typed_path, default=Path("outputs/reproduce"), help="(outputs/reproduce)")
    add("--weights", type=typed_path, default=Path("weights"),
        help="folder of files of weights that rows of frozen embedders name (weights)")  # fmt: skip
    add("--curve", action="store_true", help="score the checkpoint of every epoch as well")
    add("--last-only", action="store_true",
        help="name the epoch that is chosen without labels, and do not score it where it is not "
        "the last: half the scoring")  # fmt: skip
    add("--pictures", type=whole(0, 100), default=0, metavar="N",
        help="draw so many of the scored images under every row with clusters (0)")  # fmt: skip
    add("--device", help=f"of evaluations: {NAMES} (a GPU of CUDA if there is one)")
    args = parser.parse_intermixed_args()
    if not args.list and args.table is None:
        parser.error("name a table, or --list")
    if args.part and args.pictures:
        parser.error("--pictures: ask the call without --part for them, which comes last")
    return args


def listed(names: list[str]) -> str:
    lines = []
    for name in names:
        table = load_table(name)
        lines.append(f"{name}: {table.title}" + (f" ({table.source})" if table.source else ""))
        for row in table.rows:
            lines.append(f"    {row.name}{'' if row.evaluate else ' (published figures only)'}")
    return "\n".join(lines)


def main() -> int:
    args = parse()
    if args.list:
        answer(listed([args.table] if args.table else table_names()))
        return 0
    table = select_readouts(load_table(args.table), args.readout)
    chosen = select_rows(table, args.row).rows
    rows = [row.name for row in chosen]
    scale = load_scale(args.scale)
    check_overrides(args.overrides)
    check_folder("--out", args.out)
    if args.device is not None:
        check_device_name(args.device, "--device")
    datasets = parse_datasets(args.dataset)
    for each in datasets.values():
        if each not in DATASETS:
            open_dataset(each, args.data_root)
    check_needs(chosen)
    # PyTorch takes seconds to import, and neither a list nor a refusal needs it.
    from vice.experiments.reproduce.announce import announce_baseline
    from vice.experiments.reproduce.overrides import check_trainings
    from vice.experiments.reproduce.pairing import write_pairing
    from vice.experiments.reproduce.pictures import write_pictures
    from vice.experiments.reproduce.report import to_markdown, write_report
    from vice.experiments.reproduce.runner import reported_rows, reproduce

    if args.device is not None:
        check_device(args.device, "--device")
    plan = ReproducePlan(
        out=args.out,
        scale=scale,
        seeds=args.seeds,
        datasets=datasets,
        data_root=args.data_root,
        overrides=tuple(args.overrides),
        slurm=args.slurm,
        device=args.device,
        weights=args.weights,
        curve=args.curve,
        last_only=args.last_only,
        part=args.part,
    )
    check_trainings(table, plan, rows)
    announce_baseline(comes_along(table, args.row))
    outcome = reproduce(
        table,
        plan,
        lambda outcome: write_report(reported_rows(table, outcome, rows), outcome, plan),
        rows,
    )
    table = reported_rows(table, outcome, rows)
    file = write_report(table, outcome, plan)
    paired = write_pairing(table, outcome, plan)
    show(f"\n{to_markdown(table, outcome, plan)}\n{file}")
    if args.pictures and (sheet := write_pictures(table, outcome, plan, args.pictures)):
        show(f"{sheet}: the same images under every row")
    if paired is not None:
        show(f"{paired}: intervals, and differences over the same images")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    run(main, kept=KEPT)

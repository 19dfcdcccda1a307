#!/usr/bin/env python
"""Scores masks under names that a person gave against labels.

MASKS is the output folder of `vice segment --concepts concepts.json` over the images of the scored
split. A concept stands for the class of the same name; --names says it of the others, as a JSON
file of concept to class, or to null. Pixels of concepts without a class count as missed, and so do
dropped ones. Nothing is matched by counts.
"""

from __future__ import annotations

import re
from pathlib import Path

from vice.cli import RESULTS_KEPT, Parser, run, show
from vice.datasets import open_dataset
from vice.evaluation.out_of_data import files_of, keep_out_of_data
from vice.names import printable
from vice.paths import check_there, typed_path, typed_text
from vice.runtime.files import check_folder, read_json
from vice.runtime.folder_lock import sole_writer
from vice.runtime.own_folder import keep_others_from_results

EXAMPLE = """\
example:
  python tools/score_masks.py masks --dataset path/to/labelled/folder --names names.json
"""


def main() -> None:
    parser = Parser(
        description=__doc__,
        epilog=EXAMPLE,
    )
    add = parser.add_argument
    add("masks", type=typed_path, help="output folder of vice segment")
    add("--dataset", required=True, type=typed_text, help="a benchmark, or a labelled folder")
    add("--data-root", type=typed_text, help="folder that holds the benchmarks' folders")
    add("--split", default="val", help="split to score (val)")
    add("--names", type=typed_path, metavar="FILE", help="JSON of concept to class, or to null")
    add("--out", type=typed_path, help="results directory (outputs/masks/...)")
    args = parser.parse_args()
    parts = [args.dataset, args.split, str(args.masks)]
    name = "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts)
    out = args.out or Path("outputs", "masks", name)
    check_folder("--out", out)
    keep_others_from_results(out)
    said = None
    if args.names is not None:
        check_there(args.names, "--names: ", "file")
        said = read_json(args.names, "write concept to class, or to null")
    check_there(args.masks, what="folder of masks")
    data = open_dataset(args.dataset, args.data_root)
    keep_out_of_data(out, data.root, files_of(data.pairs(args.split)))
    # PyTorch takes seconds to import, and help does without.
    from vice.evaluation.image_counts import save_image_tables
    from vice.evaluation.mask_scores import MASK_SUMS, NamedMasks, mask_line, score_masks
    from vice.evaluation.replaced import tell_replaced
    from vice.explore.written_masks import MasksByImage, open_written
    from vice.runtime.files import write_json
    from vice.runtime.run_folder import PER_IMAGE_NAME, RESULTS_NAME

    written = open_written(args.masks)
    source = {"masks": str(args.masks), "names": None if args.names is None else str(args.names)}
    masks = NamedMasks(written.names, written.void, MasksByImage(written).read, source)
    result, sums = score_masks(masks, data, args.split, said)
    with sole_writer(out):
        tell_replaced(out, result)
        save_image_tables(out / PER_IMAGE_NAME, {}, {MASK_SUMS: sums})
        write_json(out / RESULTS_NAME, result, allow_nan=False)
    show(f"{mask_line(result)}, {printable(str(out))}")


if __name__ == "__main__":
    run(main, kept=RESULTS_KEPT)

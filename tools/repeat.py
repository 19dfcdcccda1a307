#!/usr/bin/env python
"""Takes a result once more from its own results.json, and says whether the scores agree.

Weights, lists of images, classes and protocol are verified first. Exit status 1 where a score
differs, or the weights that were scored in the end.

Examples:
    python tools/repeat.py outputs/eval/RESULT --out outputs/again
    python tools/repeat.py RESULT --out outputs/again --checkpoint downloads/vice.safetensors
"""

from pathlib import Path

from vice.cli import RESULTS_KEPT, Parser, run, whole
from vice.model_specs import check_spec
from vice.paths import check_there, typed_text
from vice.runtime.answers import answer
from vice.runtime.device_names import NAMES
from vice.runtime.files import check_folder
from vice.runtime.own_folder import keep_others_from_results


def main() -> int:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("result", type=typed_text, help="results directory")
    add("--out", required=True, type=typed_text, help="where the new results go")
    add("--checkpoint", type=typed_text, help="where the weights are on this machine")
    add("--data-root", type=typed_text, help="where the benchmarks are on this machine")
    add("--device", help=f"{NAMES} (as in the result)")
    add(
        "--trust",
        action="store_true",
        help="run what the result names: a MODULE:CALLABLE, or options of MMSegmentation",
    )
    add("--workers", type=whole(0, 1024), help="data loading processes (as in the result)")
    args = parser.parse_args()
    check_there(args.result, what="results directory")
    check_folder("--out", args.out)
    keep_others_from_results(Path(args.out))
    if args.checkpoint is not None:
        check_spec(args.checkpoint)
    # MMSegmentation takes seconds to import, and help needs none of it.
    from vice.experiments.repeat import repeat

    differences = repeat(
        args.result,
        args.out,
        trust=args.trust,
        spec=args.checkpoint,
        data_root=args.data_root,
        device=args.device,
        workers=args.workers,
    )
    answer("\n".join(differences) or f"all scores of {args.result} are reproduced exactly")
    return 1 if differences else 0


if __name__ == "__main__":
    run(main, kept=RESULTS_KEPT)

"""Command-line options that all evaluations share."""

from __future__ import annotations

import argparse
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vice.cli import Parser, number, whole
from vice.datasets import DATASETS
from vice.errors import UserError
from vice.evaluation.protocol_effects import KINDS, changes_of_kind, check_effects
from vice.evaluation.protocol_text import parse_changes
from vice.evaluation.protocols import Protocol, default_protocol, get_protocol
from vice.evaluation.published import NOTES, PROTOCOLS
from vice.paths import typed_text
from vice.runtime.device_names import NAMES
from vice.runtime.files import check_folder
from vice.runtime.own_folder import keep_others_from_read_outs, keep_others_from_results


def evaluation_parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """Options that every evaluation has: what is scored, on what, how, and where results go.

    Args:
        description: First lines of ``--help``.
        example: Last lines of ``--help``.

    Returns:
        The parser, to add the evaluation's own options to.
    """
    notes = "".join(
        textwrap.fill(f"{name}: {note}", 88, initial_indent="  ", subsequent_indent="      ") + "\n"
        for name, note in NOTES.items()
    )
    parser = Parser(
        description=description,
        epilog=f"protocols:\n{notes}\nexample:\n{example}",
    )
    add = parser.add_argument
    add(
        "checkpoint",
        type=typed_text,
        help="run folder or checkpoint file (ViCE, VISSL, torchvision), random:PATH, "
        "random:resnet18-fpn-128, torchvision:resnet50, timm:NAME[@FILE], MODULE:CALLABLE, or lab",
    )
    add(
        "--dataset",
        required=True,
        type=typed_text,
        help=f"{', '.join(DATASETS)}, or a labelled folder",
    )
    add("--protocol", choices=sorted(PROTOCOLS), help="(vice2022_highres or native, see below)")
    add(
        "--data-root",
        type=typed_text,
        help="folder above the benchmarks' folders (VICE_DATA, or data)",
    )
    add("--fit-dataset", type=typed_text, help="fit on this data set instead, of the same classes")
    add("--out", type=typed_text, help="results directory (outputs/eval/...)")
    add("--split-fit", help="split to fit on (as the protocol says)")
    add("--split-score", help="split to score (as the protocol says)")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="change fields of the protocol, and with them its hash, for example upsample=classes; "
        "those without effect are refused",
    )
    add(
        "--cache-gib",
        type=number(0, 1e6),
        default=0.0,
        help="keep embeddings up to this many GiB (0)",
    )
    add("--read-as", metavar="RUN", type=typed_text, help="read images with the scale and bands of "
        "this run's (those of the checkpoint; 8-bit RGB)")  # fmt: skip
    add("--workers", type=whole(0, 1024), default=0, help="data loading processes (0)")
    add("--seed", type=whole(0, 2**31 - 1), default=0)
    add("--device", help=f"{NAMES} (a GPU of CUDA if there is one)")
    return parser


def task_arguments(
    args: argparse.Namespace,
    kind: str,
    *,
    detail: str | Callable[[Protocol], str] = "",
    effects: str | None = None,
    **fields: str,
) -> dict[str, Any]:
    """What `evaluation_parser` has parsed, as arguments of the evaluations.

    Args:
        args: The parsed command line.
        kind: A key of `vice.evaluation.protocol_effects.KINDS`.
        detail: What else is in the name of the default results directory, or gives it of the
            protocol.
        effects: The kind whose fields have an effect; None: ``kind``.
        **fields: Option to the field of the protocol that it changes.

    Returns:
        Keyword arguments; ``out_dir`` is always given.

    Raises:
        UserError: A field or the results directory cannot be used, or a field is changed that has
            no effect.
    """
    changes = _changes(args, **fields)
    name = args.protocol or default_protocol(_family(args))
    protocol = get_protocol(name, _family(args), **changes)
    check_effects(effects or kind, protocol)
    more = detail if isinstance(detail, str) else detail(protocol)
    return _arguments(args, protocol, kind + more) | {"protocol": protocol}


def score_arguments(
    args: argparse.Namespace, kinds: Sequence[str], retrieval: str | None = None
) -> dict[str, Any]:
    """What `evaluation_parser` has parsed, as arguments of `vice.plugins.mmseg.score.score`.

    Each kind gets those changed fields of the protocol that have an effect on it, so that its hash
    is that of its own tool. Retrieval follows ``hummingbird2023`` where no other protocol is named
    for it, with the changed splits and fields of retrieval. The probe of the positional bias is
    fitted to convergence.

    Args:
        args: The parsed command line.
        kinds: Keys of `vice.evaluation.protocol_effects.KINDS` that are asked for, and
            ``"position"``.
        retrieval: Protocol of retrieval; None: see above.

    Returns:
        Keyword arguments, with ``protocols``.

    Raises:
        UserError: As `task_arguments`, of a field without effect on any kind.
    """
    changes, family = _changes(args), _family(args)
    name = args.protocol or default_protocol(family)
    full = get_protocol(name, family, **changes)
    converged = get_protocol(name, family, **{**changes, "linear_optimizer": "lbfgs"})
    retrieval = retrieval or (name if name.startswith("hummingbird") else "hummingbird2023")
    protocols = {}
    for kind in kinds:
        if kind == "retrieval" and retrieval != name:
            splits = {k: v for k, v in changes.items() if k in ("fit_split", "score_split")}
            own = {k: v for k, v in changes.items() if k.startswith("retrieval_")}
            protocols[kind] = get_protocol(retrieval, family, **splits, **own)
        else:
            asked = converged if kind == "position" else full
            protocols[kind] = get_protocol(name, family, **changes_of_kind(kind, asked))
        check_effects(kind, protocols[kind])
    used = {field for protocol in protocols.values() for field in protocol.changed()}
    if kinds and set(full.changed()) - used:
        check_effects(kinds[0], full)
    return _arguments(args, full, "score") | {"protocols": protocols}


def _changes(args: argparse.Namespace, **fields: str) -> dict[str, Any]:
    """Fields of the protocol that the command line changes."""
    changes = parse_changes(args.set)
    for option, field in {"split_fit": "fit_split", "split_score": "score_split", **fields}.items():
        if getattr(args, option) is not None:
            if field in changes:
                named = option.replace("_", "-")
                raise UserError(f"--{named} and --set {field}= are one setting: leave one out")
            changes[field] = getattr(args, option)
    return changes


def _family(args: argparse.Namespace) -> str:
    return args.dataset if args.dataset in DATASETS else "folder"


def _arguments(args: argparse.Namespace, protocol: Protocol, what: str) -> dict[str, Any]:
    """Arguments that do not depend on the kind, after a look at the results directory."""
    place = Path(args.dataset).resolve()
    data = place.parent.name if os.path.isfile(place) else place.name
    parts = [data, protocol.name, protocol.hash, what, args.checkpoint, f"seed{args.seed}"]
    folder = "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts)
    out = args.out or str(Path("outputs", "eval", folder))
    check_folder("--out", out)
    if what == "score":
        keep_others_from_read_outs(Path(out), (*KINDS, "position"))
    else:
        keep_others_from_results(Path(out))
    return {
        "spec": args.checkpoint,
        "dataset": args.dataset,
        "out_dir": out,
        "data_root": args.data_root,
        "fit_dataset": args.fit_dataset,
        "cache_bytes": int(args.cache_gib * 2**30),
        "workers": args.workers,
        "seed": args.seed,
        "device": args.device,
        **({} if args.read_as is None else {"read_as": args.read_as}),
    }


def percent(scores: dict[str, Any]) -> str:
    """Gives mIoU and accuracy in percent, with their intervals, and over how many classes.

    Those of parts of the classes follow, see `vice.evaluation.results.scores`.
    """
    whole = _percent(scores)
    parts = [f"{name} {_percent(part)}" for name, part in scores.get("parts", {}).items()]
    return f"{whole} [{', '.join(parts)}]" if parts else whole


def _percent(scores: dict[str, Any]) -> str:
    # Lazy imports: both load PyTorch, which help and what it refuses do without.
    from vice.evaluation.intervals import interval_text
    from vice.scoring import mean_over

    intervals = scores.get("interval") or {}
    text = " / ".join(
        ("-" if scores[name] is None else f"{100 * scores[name]:.2f}")
        + interval_text(intervals.get(name))
        for name in ("miou", "accuracy")
    )
    over = mean_over([scores])
    return f"{text} ({over})" if over else text

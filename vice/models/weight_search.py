"""Search for a network's weights in files of any trainer.

A file is flattened to dotted names, whatever nests in it; every common beginning of enough names is
a place where the network may lie (``state_dict.module.encoder_q.``), and the network itself says of
each whether all its weights are there. Wrappers and trainers need no list that way.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vice.errors import UserError
from vice.models.own_files import first_not_finite
from vice.models.pickled_values import Inert
from vice.models.weight_match import Match, State, same

logger = logging.getLogger(__name__)
Fit = Callable[[State], Match | None]
TOP = "top level"
#: Parts of a name that compiling, sharding and checkpointing of activations put between others.
_WRAPPERS = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
#: Which of several copies is meant: running averages and teachers (0) before what has no role (1),
#: among it the encoders that the authors of MoCo and BYOL evaluate, before students (2), before
#: momentum encoders (3), which serve the training only.
_ROLES = (
    (0, re.compile(r"teacher|(?<![a-z])(ema|averaged?|swa|avg|target_encoder)(?![a-z])")),
    (3, re.compile(r"momentum|(?<![a-z])(encoder_k|key_encoder|target)(?![a-z])")),
    (2, re.compile(r"student")),
)
_OPTIMIZER = re.compile(
    r"(?<![a-z])(optim|optimizers?|exp_avg(_sq)?|momentum_buffer|grads?)(?![a-z])"
)
#: Nested further, or wider, a file is no checkpoint.
_DEEPEST, _MAPPINGS = 1000, 100_000
#: Lists that are looked into, and items of each; a checkpoint may hold the names of all samples.
_LISTS, _LONGEST_LIST = 10_000, 1000
#: Of a network's weights, the share that makes a place an incomplete copy of it.
_NEAR = 0.5


@dataclass(frozen=True)
class FoundWeights:
    """Weights and where they came from.

    Attributes:
        tensors: Under the network's own names.
        source: For results.json: ``file``, ``key``, ``names`` (whose they are), ``not_taken`` (keys
            of other copies) and ``unused`` (number of weights that are not part of the network).
    """

    tensors: State
    source: dict[str, Any]


def find_weights(
    content: Any,
    fit: Fit,
    *,
    file: str,
    key: str,
    least: int,
    marks: Collection[str],
    name: str,
    nothing: Callable[[State], str],
) -> FoundWeights:
    """Finds a network's weights in a file, all of them or none.

    Args:
        content: What was read.
        fit: Says what the network makes of tensors under one prefix.
        file: Its path, for messages.
        key: Part of the path to the wanted weights, such as ``student``; empty leaves the choice to
            the order of roles.
        least: Fewest weights of a place that is looked at.
        marks: Names of weights that only such a network has; what stands before them in a file is a
            prefix even where it does not end with a dot.
        name: What the user calls the network.
        nothing: What to say of a file in which no place is anything like the network.

    Raises:
        UserError: No such weights, an incomplete copy where the best one is expected, or several
            that differ and none of which comes first.
    """
    flat = flatten(content, file)
    places = {
        prefix: fit({k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)})
        for prefix in _prefixes(flat, least, marks)
    }
    matches = {prefix: match for prefix, match in places.items() if match is not None}
    chosen = _asked_for(matches, key, file) if key else _without_optimizers(matches)
    whole = {prefix: match for prefix, match in chosen.items() if match.problem is None}
    if not whole:
        if kind := _whole_module(content):
            raise UserError(
                f"{file} holds a whole module ({kind}), not its weights alone, and a module is "
                "code: where you trust the file, save torch.save(module.state_dict(), FILE)"
            )
        _refuse(chosen, flat, file, name, nothing)
    best = _best(whole, chosen, file)
    match = chosen[best]
    others = [label(prefix) for prefix in whole if not same(whole[prefix].tensors, match.tensors)]
    broken = first_not_finite(match.tensors)
    if broken is not None:
        raise UserError(f"{file}: {broken} holds values that are not finite")
    _say(file, best, match, others, name)
    source = {
        "file": file,
        "key": label(best),
        "names": match.layout,
        "not_taken": others,
        "unused": len(match.unused),
    }
    return FoundWeights(match.tensors, source)


def label(prefix: str) -> str:
    """A place as a user writes it after ``#``."""
    return prefix.rstrip(".") or TOP


def flatten(content: Any, file: str) -> State:
    """Every tensor in nested dicts and lists under its dotted name, without the wrappers inside.

    Items of a list have their number as name, as keys that are numbers do.

    Raises:
        UserError: Two tensors get one name, or there is no end to the dicts.
    """
    flat: State = {}
    # No recursion: a file may nest dicts as deep as it likes, and one within itself.
    stack: list[tuple[str, Any, frozenset[int]]] = [("", _group(content), frozenset())]
    visited, lists = 0, _LISTS
    while stack:
        prefix, group, above = stack.pop()
        if isinstance(group, Mapping):
            visited += 1
        if visited > _MAPPINGS:
            raise UserError(f"{file} nests more than {_MAPPINGS} dicts: it is no checkpoint")
        inner = []
        for key, value in _named(group):
            if isinstance(value, Tensor):
                if prefix + key in flat and flat[prefix + key] is not value:
                    raise UserError(f"{file} holds {prefix + key} twice")
                flat[prefix + key] = value
                continue
            if isinstance(value, list | tuple):
                # Search bound: lists of a million samples are no networks.
                lists -= 1
                value = value if lists >= 0 and len(value) <= _LONGEST_LIST else None
            if (
                isinstance(value, Mapping | list | tuple)
                and id(value) not in above
                and len(above) < _DEEPEST
            ):
                inner.append((f"{prefix}{key}.", value, above | {id(group)}))
        stack += reversed(inner)
    plain = {_WRAPPERS.sub("", key).lstrip("."): value for key, value in flat.items()}
    return plain if len(plain) == len(flat) else flat


def _group(content: Any) -> Any:
    return content if isinstance(content, Mapping | list | tuple) else {}


def _named(group: Any) -> Iterable[tuple[str, Any]]:
    """Values of a dict or list with their names; none of keys that are neither text nor numbers."""
    pairs = group.items() if isinstance(group, Mapping) else enumerate(group)
    for key, value in pairs:
        if isinstance(key, bytes):  # of Python 2
            key = key.decode("utf-8", "replace")
        if isinstance(key, str | int) and not isinstance(key, bool):
            yield str(key), value


def _prefixes(flat: State, least: int, marks: Collection[str]) -> list[str]:
    """Beginnings of names before which or behind which a network may lie, shortest first."""
    counts: Counter[str] = Counter()
    for key in flat:
        end = key.find(".")
        counts[""] += 1
        while end >= 0:
            counts[key[: end + 1]] += 1
            end = key.find(".", end + 1)
    prefixes = {prefix for prefix, count in counts.items() if count >= least}
    prefixes |= {key.removesuffix(mark) for key in flat for mark in marks if key.endswith(mark)}
    return sorted(prefixes, key=lambda prefix: (len(prefix), prefix))


def _asked_for(matches: dict[str, Match], key: str, file: str) -> dict[str, Match]:
    wanted = [part for part in re.split(r"[./]", _WRAPPERS.sub("", key)) if part]
    if key in (TOP, "."):
        exact = {"": matches[""]} if "" in matches else {}
    else:
        exact = {p: m for p, m in matches.items() if label(p).split(".") == wanted}
        exact = {p: m for p, m in exact.items() if m.problem is None}
    candidates = exact or {p: m for p, m in matches.items() if wanted and _contains(p, wanted)}
    if not candidates:
        places = ", ".join(label(p) for p, m in matches.items() if m.share >= _NEAR)
        raise UserError(
            f"{file} has no such weights at {key!r}"
            + (f"; it has them at {places}" if places else "; leave #KEY out to see what it holds")
        )
    return candidates


def _contains(prefix: str, wanted: list[str]) -> bool:
    parts = prefix.rstrip(".").split(".")
    return any(parts[i : i + len(wanted)] == wanted for i in range(len(parts)))


def _without_optimizers(matches: dict[str, Match]) -> dict[str, Match]:
    return {p: m for p, m in matches.items() if not _OPTIMIZER.search(p.lower())}


def role(prefix: str) -> int:
    """Which copy of a network a place holds: 0 is taken first."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", prefix).lower()
    return next((rank for rank, pattern in _ROLES if pattern.search(text)), 1)


def _best(whole: dict[str, Match], chosen: dict[str, Match], file: str) -> str:
    first = min(role(prefix) for prefix in whole)
    near = [
        prefix
        for prefix, match in chosen.items()
        if match.problem and not match.other and match.share >= _NEAR and role(prefix) < first
    ]
    if near:
        raise UserError(
            f"{file}: its weights at {label(near[0])} come first but are not whole "
            f"({chosen[near[0]].problem}); choose others with {file}#{label(next(iter(whole)))}"
        )
    equal = [prefix for prefix in whole if role(prefix) == first]
    # Duplicates: a prefix that a network strips itself, and copies of one, make no difference.
    differ = [p for p in equal if not same(whole[p].tensors, whole[equal[0]].tensors)]
    if differ:
        names = ", ".join(label(prefix) for prefix in [equal[0], *differ])
        raise UserError(
            f"{file} holds {1 + len(differ)} networks of this kind that differ, at {names}; choose "
            f"one with {file}#{label(equal[0])} or {file}#{label(differ[0])}"
        )
    return equal[-1]


def _refuse(
    chosen: dict[str, Match],
    flat: State,
    file: str,
    name: str,
    nothing: Callable[[State], str],
) -> None:
    near = [p for p, match in chosen.items() if match.share or match.other]
    if not near:
        raise UserError(f"{file}: {nothing(flat)}")
    best = min(near, key=lambda prefix: (-chosen[prefix].share, role(prefix)))
    where = f" at {label(best)}" if best else ""
    raise UserError(f"cannot load the weights of {name} from {file}{where}: {chosen[best].problem}")


def _whole_module(content: Any) -> str | None:
    """Class of the first pickled module at the top of a file, or None."""
    inner = content.values() if isinstance(content, Mapping) else ()
    for value in (content, *inner):
        if isinstance(value, Inert) and "_modules" in value:
            return value.kind
    return None


def _say(file: str, best: str, match: Match, others: list[str], name: str) -> None:
    if others:
        logger.warning(
            "%s: taking the weights at %s, not those at %s (FILE#KEY chooses)",
            file,
            label(best),
            ", ".join(others),
        )
    elif best:
        logger.info("%s: taking the weights at %s", file, label(best))
    if match.unused:
        tops = sorted({key.partition(".")[0] for key in match.unused})
        shown = ", ".join(tops[:8]) + (" ..." if len(tops) > 8 else "")
        logger.info("%s: %d weights are not part of %s: %s", file, len(match.unused), name, shown)

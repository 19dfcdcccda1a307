"""Takes a result once more, from nothing but its own ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.evaluation.compare import readouts
from vice.evaluation.content_checksums import content_of
from vice.evaluation.protocols import Protocol, from_dict
from vice.evaluation.scored_folders import read_results
from vice.evaluation.task import Task, make_task
from vice.model_specs import names_code
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
from vice.plugins.mmseg.finetune import finetune
from vice.runtime.provenance import known_digest
from vice.runtime.run_folder import RESULTS_NAME

EVALUATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "linear": evaluate_linear,
    "clusters": evaluate_clusters,
    "finetune": finetune,
    "retrieval": evaluate_retrieval,
}
_TASK_ONLY = ("protocol", "out_dir", "spec", "dataset", "data_root", "fit_dataset")


def repeat(
    folder: str | Path, out_dir: str | Path, *, trust: bool = False, **changed: Any
) -> list[str]:
    """Evaluates again as a results directory says, and compares the scores.

    Before it starts, it makes sure that protocol, lists of images and weights are those of then.

    Args:
        folder: A results directory.
        out_dir: Where the new results go.
        trust: Whether code that the result names may run: a ``MODULE:CALLABLE``, or options that
            name classes of MMSegmentation.
        **changed: Arguments that may differ on this machine: ``spec``, ``data_root``, ``device``,
            ``workers``.

    Returns:
        A line for the weights that were scored, and for what images and labels held, if they are
        not those of then, and one for each score that came out differently; empty where all are
        equal.

    Raises:
        UserError: No result there, it was taken of other weights, images or classes, or it names
            code that is not trusted.
    """
    (old,) = read_results([folder], whole=False)
    changed = {name: value for name, value in changed.items() if value is not None}
    said = _arguments(old, folder)
    if not trust:
        _refuse_code({**said, **dict.fromkeys(changed)}, folder)
    arguments = {**said, **changed}
    if Path(out_dir).resolve() == Path(folder).resolve():
        raise UserError(f"{out_dir} holds the result to be reproduced: name another folder")
    arguments["out_dir"] = out_dir
    _check(old, arguments)
    new = EVALUATIONS[old["kind"]](**arguments)
    # Second load: what was verified was loaded once more, and code need not give the same again.
    then, now = known_digest(old["model"]["digest"]), new["model"]["digest"]
    weights = [] if then in (None, now) else [f"weights differ: {then} then, {now} now"]
    held, holds = content_of(old), content_of(new)
    # Results of earlier versions do not say what images and labels held.
    content = [
        f"{name} differ: {held[name]} then, {holds.get(name)} now"
        for name in held
        if held[name] != holds.get(name)
    ]
    before, after = dict(_scores(old)), dict(_scores(new))
    scores = [
        f"{name}: {before.get(name)} then, {after.get(name)} now"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
    return weights + content + scores


def _arguments(old: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """What the evaluation was called with."""
    said = old.get("arguments")
    known = {entry.name for entry in fields(Task)}
    known |= {*signature(EVALUATIONS[old["kind"]]).parameters}
    said = said if isinstance(said, dict) else {}
    whole = {*_TASK_ONLY, "seed"} <= said.keys() <= known
    if not whole or not isinstance(said["spec"], str) or not isinstance(said["protocol"], dict):
        raise UserError(
            f"{Path(folder) / RESULTS_NAME} does not say what the evaluation was called with; "
            "evaluate again"
        )
    return {**said, "protocol": from_dict(said["protocol"])}


def _refuse_code(said: dict[str, Any], folder: str | Path) -> None:
    """What a result brings may run nothing; what the user says may."""
    spec, options = str(said["spec"]), said.get("options")
    what = spec if names_code(spec) else f"options={options}" if options else None
    if what is not None:
        raise UserError(
            f"{Path(folder) / RESULTS_NAME} names code that would run: {what}; look at it, and "
            "say --trust if you do"
        )


def _check(old: dict[str, Any], arguments: dict[str, Any]) -> None:
    protocol: Protocol = arguments["protocol"]
    _same("protocol", old["protocol"]["hash"], protocol.hash)
    known = {k: arguments[k] for k in _TASK_ONLY}
    fit, score = make_task(**known).open()
    _same("classes", old["classes"], list(score.classes))
    lists = old["dataset"]["list_checksums"]
    checksum = fit.checksum(protocol.fit_split, labels=protocol.fit_labels)
    _same(f"list of {protocol.fit_split} images", lists["fit"], checksum)
    checksum = score.checksum(protocol.score_split)
    _same(f"list of {protocol.score_split} images", lists["score"], checksum)
    digest = share_embedder(arguments["spec"], arguments["seed"], features=protocol.features).digest
    then = known_digest(old["model"]["digest"])
    _same(f"weights of {arguments['spec']}", then or digest, digest)


def _same(what: str, then: Any, now: Any) -> None:
    if then != now:
        raise UserError(f"the {what} is not that of the result ({then} then, {now} now)")


def _scores(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every mIoU and accuracy of a result by name."""
    if result["kind"] == "clusters":
        parts = {
            f"{k} clusters, {name}": entry[name]
            for k, entry in result["clusters"].items()
            for name in result["protocol"]["fields"]["matchings"]
        }
    else:
        parts = dict(readouts(result))
    for name, entry in parts.items():
        for score in ("miou", "accuracy"):
            yield f"{name}, {score}", entry[score]

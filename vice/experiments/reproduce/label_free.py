"""What is said of a row's trainings without labels: which checkpoint, how good, how stable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from vice.datasets import DATASETS, open_dataset
from vice.datasets.labelled_set import list_checksum
from vice.datasets.subsets import take_subset
from vice.evaluation.checkpoint_selection import choose_checkpoint
from vice.evaluation.label_free import HeldOutViews
from vice.evaluation.protocols import default_protocol, get_protocol
from vice.evaluation.seed_stability import cluster_stability
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment
from vice.models.checkpoint import load_checkpoint
from vice.models.checkpoint_files import read_card
from vice.models.concepts import UNIT
from vice.models.training_state import states_of_epochs
from vice.options import flatten
from vice.runtime.files import read_json, write_json
from vice.runtime.run_folder import (
    CARD_NAME,
    CHOICE_NAME,
    SCORES_NAME,
    STABILITY_NAME,
    WEIGHTS_NAME,
    read_config,
)

_REMEDY = "delete it, and the same command makes it again"
_VIEW_KEYS = ("STANDARDIZE", "SUPERPIXELS", "VIEWS", "PHOTOMETRIC", "LOSS")
_SHARES = ("loss_over_lnk", "agreement", "cosine", "mutual_information")


def can_compare(run_dir: Path) -> bool:
    """Whether a run's concepts are compared by direction alone, as scores without labels need it.

    Those of IIC's heads are not.
    """
    return bool(read_card(run_dir).get("space", UNIT) == UNIT)


def choose(row: Experiment, run_dir: Path, seed: int, plan: ReproducePlan) -> dict[str, Any]:
    """The checkpoint of a run that is chosen without labels; found once and then read.

    The images are those of the scored split of the data that was trained on, without their labels,
    or some of them.

    Args:
        row: The row.
        run_dir: A finished run.
        seed: Of views.
        plan: What the user asks for.

    Returns:
        What `vice.evaluation.checkpoint_selection.Choice.to_dict` gives; of a run that cannot be
        compared (see `can_compare`) the last checkpoint.

    Raises:
        NotDone: As `ReproducePlan.require`, here and below.
    """
    file = run_dir / CHOICE_NAME
    if file.is_file():
        return read_json(file, _REMEDY)
    if not can_compare(run_dir):
        epochs = [epoch for epoch, _ in states_of_epochs(run_dir)]
        return {"path": str(run_dir / WEIGHTS_NAME), "epoch": max(epochs, default=0), "last": True}
    plan.require(file)
    held_out = _held_out(row, plan)
    choice = choose_checkpoint(run_dir, held_out, seed, device=_device(plan)).to_dict()
    write_json(file, choice)
    return choice


def last_scores(
    row: Experiment, run_dir: Path, settings: Mapping[str, Any], plan: ReproducePlan
) -> dict[str, Any]:
    """Label-free scores of a run's last checkpoint, in views that all rows share.

    In its own views a row could win by easier ones. Found once and then read, from the run's
    folder, where it stands with the checksums of weights, settings and images.

    Args:
        row: The row.
        run_dir: A finished run.
        settings: ``VICE`` of a training's configuration: how views are made and compared.
        plan: What the user asks for.

    Returns:
        ``perplexity_over_k``, and ``loss_over_lnk``, ``agreement``, ``cosine`` and
        ``mutual_information`` as in `vice.evaluation.label_free.LabelFreeScores`.
    """
    held_out = [image.as_posix() for image in _held_out(row, plan)]
    method = _view_settings(settings)
    text = json.dumps(method, sort_keys=True)
    asked = {
        "weights": read_json(run_dir / CARD_NAME, _REMEDY).get("sha256"),
        "views": hashlib.sha256(text.encode()).hexdigest()[:12],
        "images": list_checksum(held_out),
    }
    file = run_dir / SCORES_NAME
    known = read_json(file, _REMEDY) if file.is_file() else {}
    if {name: known.get(name) for name in asked} != asked:
        plan.require(file)
        checkpoint = load_checkpoint(run_dir, device=_device(plan))
        concepts = checkpoint.required_directions()
        scores = _views(tuple(held_out), text).measure(checkpoint.embedder, concepts)
        shares = {name: getattr(scores, name) for name in _SHARES}
        shares["perplexity_over_k"] = scores.perplexity / len(concepts)
        known = {**asked, "scores": shares}
        write_json(file, known)
    return dict(known["scores"])


def _view_settings(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """How views are made and compared, as version 0.1 wrote it, so that scores are found again."""
    from vice.plugins.vissl.config.earlier import without_younger

    # What a method has no options of is as `HeldOutViews` has it by default.
    method = {name: settings[name] for name in _VIEW_KEYS if name in settings}
    if "SUPERPIXELS" in method:
        method["SUPERPIXELS"] = {**method["SUPERPIXELS"], "cache_dir": None}
    kept = without_younger(dict(flatten(method, "VICE.")))
    return {
        group: {name: value for name, value in options.items() if f"VICE.{group}.{name}" in kept}
        for group, options in method.items()
    }


@lru_cache(maxsize=1)
def _views(images: tuple[str, ...], settings: str) -> HeldOutViews:
    """Drawn once for all rows and seeds."""
    return HeldOutViews(images, json.loads(settings))


def stability(
    row: Experiment, run_dirs: Mapping[int, Path], plan: ReproducePlan
) -> list[dict[str, Any]]:
    """How far the last checkpoints of a row's seeds agree; found once and then read.

    The images are those of `choose`, of the size that was trained on. The result is kept in the
    first run's folder, with the checksums of the weights.

    Args:
        row: The row.
        run_dirs: Seed to its finished run; two or more.
        plan: What the user asks for.

    Returns:
        For each pair of seeds: ``seeds``, ``adjusted_rand_index`` and
        ``normalized_mutual_information`` of the nearest prototypes of all pixels.

    Raises:
        UserError: A run without prototypes, or no image can be read.
    """
    folders, held_out = list(run_dirs.values()), _held_out(row, plan)
    sizes = read_config(folders[0])["VICE"]["STANDARDIZE"]
    asked: dict[str, Any] = {
        "seeds": list(run_dirs),
        "weights": [read_json(folder / CARD_NAME, _REMEDY).get("sha256") for folder in folders],
        "images": list_checksum([image.as_posix() for image in held_out]),
    }
    file = folders[0] / STABILITY_NAME
    known = read_json(file, _REMEDY) if file.is_file() else {}
    if {name: known.get(name) for name in asked} == asked:
        return list(known["pairs"])
    plan.require(file)
    agreement = cluster_stability(folders, held_out, sizes=sizes, device=_device(plan))
    pairs = [{"seeds": [asked["seeds"][i] for i in pair], **agreement[pair]} for pair in agreement]
    write_json(file, {**asked, "pairs": pairs})
    return pairs


def _device(plan: ReproducePlan) -> str:
    return plan.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _held_out(row: Experiment, plan: ReproducePlan) -> list[Path]:
    name = plan.dataset(row.trained_on)
    known = name if name in DATASETS else "folder"
    split = get_protocol(default_protocol(known), known).score_split
    data = open_dataset(name, plan.data_root)
    names = data.names(split, labels=False)
    kept = take_subset(names, min(1.0, plan.scale.held_out / len(names)), 0)
    return [data.root / name for name in names if name in kept]

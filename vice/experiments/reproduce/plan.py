"""The trainings that rows ask for: what each comes to, what it is called, and where it lies.

Rows that come to the same configuration, seed and images share one run, within a table and between
tables.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

from vice.datasets import DATASETS, open_dataset
from vice.datasets.labelled_set import list_checksum
from vice.datasets.subsets import take_subset
from vice.errors import UserError
from vice.evaluation.protocols import default_protocol, get_protocol
from vice.experiments.reproduce.tables import Experiment, Scale, key_of, last_of_each
from vice.names import printable
from vice.paths import EMPTY
from vice.runtime.files import write_text
from vice.runtime.overrides import expand, quote

#: Width of the network: a method with prototypes has it follow theirs, others say it.
_WIDTH, _LEADS = "config.MODEL.TRUNK.VICE.dim", "config.VICE.PROTOTYPES.dim"
#: How tables said that a network is computed before they left it to what is faster.
_SAID_BEFORE = {
    "MODEL.TRUNK.EXECUTION.precision": "bfloat16",
    "MODEL.TRUNK.EXECUTION.channels_last": "True",
}


class NoWeights(Exception):
    """The weights of a frozen embedder cannot be had; says how they could."""


class NotDone(Exception):
    """Something is not done, and the plan is to leave it so."""


@dataclass(frozen=True)
class ReproducePlan:
    """What the user asks for.

    Attributes:
        out: Folder of everything that is made.
        scale: How large experiments are made.
        seeds: How many seeds, from 0.
        datasets: Name of a benchmark to the data set in its place; ``"*"`` stands for all others.
        data_root: Folder that holds the benchmarks' folders.
        overrides: Further Hydra overrides of every training; they win over rows and scale.
        slurm: Whether trainings are handed to SLURM.
        device: Where evaluations compute; None takes a GPU if there is one.
        weights: Folder of files of weights that rows name.
        only_done: Whether what is not done is left so: `require` says it.
        curve: Whether the checkpoint of every epoch is scored, for a curve over epochs.
        last_only: Whether the checkpoint that is chosen without labels is named, and not scored
            where it is not the last.
        part: K and N: of what is asked for, every N-th run from the K-th on; the others are left to
            processes beside this one. None does all.
    """

    out: Path
    scale: Scale
    seeds: int = 1
    datasets: Mapping[str, str] = field(default_factory=dict)
    data_root: str | None = None
    overrides: tuple[str, ...] = ()
    slurm: bool = False
    device: str | None = None
    weights: Path = Path("weights")
    only_done: bool = False
    curve: bool = False
    last_only: bool = False
    part: tuple[int, int] | None = None

    def require(self, what: object) -> None:
        """Says that something has to be computed.

        Raises:
            NotDone: The plan is to compute nothing.
        """
        if self.only_done:
            raise NotDone(what)

    def dataset(self, name: str) -> str:
        """The data set that stands in the place of a benchmark."""
        return self.datasets.get(name, self.datasets.get("*", name))

    def comparable(self) -> bool:
        """Whether results are at the papers' setting, as far as this command says."""
        return self.scale.name == "full" and not self.datasets and not self.changed()

    def changed(self) -> dict[str, str]:
        """Key and value of the overrides that results follow from, whatever their order."""
        given = {key_of(text): text.partition("=")[2] for text in self.overrides}
        return {key: given[key] for key in sorted(given) if not _is_harmless(key)}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        config: Config of the training.
        overrides: All overrides but data and folder.
        seed: Its seed.
        settings: What `settings` makes of them: everything that its result follows from, but
            the images.
    """

    config: str
    overrides: tuple[str, ...]
    seed: int
    settings: Mapping[str, str]

    def key(self, images: str) -> str:
        """Ten hexadecimal digits of settings, seed and images.

        Args:
            images: Name or checksum of the training images.
        """
        content = json.dumps([self.seed, images, dict(self.settings)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]


def frozen_spec(row: Experiment, plan: ReproducePlan) -> str:
    """What a row evaluates that trains nothing, with the file of its weights where there is one.

    Raises:
        NoWeights: They can only be had from a file, which is not there.
    """
    spec = str(row.spec)
    if not row.file:
        from_imagenet = spec.startswith("imagenet:")
        return plan.scale.finetuned if from_imagenet and plan.scale.finetuned else spec
    found = sorted(path for path in plan.weights.glob(f"{row.file}*") if path.stem == row.file)
    if found and spec.startswith(("timm:", "torchvision:")):
        return f"{spec}@{found[0]}"
    if not row.fetched:
        raise NoWeights(f"put them into {plan.weights} as {row.file}.pth or .safetensors")
    return spec


def plan_run(row: Experiment, plan: ReproducePlan, seed: int) -> Run:
    """Composes the training of a row; nothing has to be there for it.

    Args:
        row: A row with a config.
        plan: What the user asks for.
        seed: Of the training.

    Returns:
        The run.

    Raises:
        UserError: Overrides that the config does not take.
    """
    assert row.config is not None
    root = []
    if plan.data_root is not None:
        root = [f"config.VICE.DATASET.root={quote(expand(plan.data_root))}"]
    # Shared cache: runs of the same superpixels have one.
    cache = f"config.VICE.SUPERPIXELS.cache_dir={quote(plan.out.absolute() / 'superpixels')}"
    of_table = last_of_each(
        (
            *_known(row, (*row.shared, *plan.scale.train)),
            *row.own,
            *_scaled(row, plan),
            *root,
            *_known(row, (cache,)),
        )
    )
    given = {key_of(text) for text in plan.overrides}
    # What adds a key stays: the user's override sets it.
    kept = [text for text in of_table if key_of(text) not in given or text.startswith("+")]
    overrides = (*kept, *plan.overrides, f"config.SEED_VALUE={seed}")
    return Run(row.config, overrides, seed, settings(row.config, overrides))


def _known(row: Experiment, overrides: Sequence[str]) -> list[str]:
    """Without options of methods that the row's has not; what others share speaks of all."""
    options = composed(str(row.config), ())["config"]["VICE"]
    kept = []
    for text in overrides:
        key = key_of(text).removeprefix("config.")
        if not key.startswith("VICE.") or _holds(options, key.removeprefix("VICE.")):
            kept.append(text)
    return kept


def _holds(nested: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(nested, Mapping) or part not in nested:
            return False
        nested = nested[part]
    return True


def _scaled(row: Experiment, plan: ReproducePlan) -> list[str]:
    """What the row says at full scale, times the scale's factors; the user's overrides win."""
    # Memoization: composing takes time, and what comes with shared parts is the same for most rows.
    usable = tuple(_known(row, row.shared))
    shared = composed(str(row.config), usable) if plan.scale.factors else {}
    stated = {key_of(text): _number(text.partition("=")[2]) for text in row.own}
    named = {key_of(text) for text in plan.overrides}
    overrides = []
    for key, factor in plan.scale.factors.items():
        if key not in stated and not _holds(shared, key):
            continue
        if key == _WIDTH and (_holds(shared, _LEADS) or key not in stated):
            continue
        value = stated[key] if key in stated else _at(shared, key)
        if key not in named:
            scaled = max(1, round(value * factor)) if isinstance(value, int) else value * factor
            # Zero switches something off at any scale.
            overrides.append(f"{key}={scaled if value else 0}")
    return overrides


def scaled_settings(
    row: Experiment, plan: ReproducePlan
) -> tuple[dict[str, float], dict[str, str]]:
    """What the scale has a say in, as it comes to be in the training of a row.

    Args:
        row: A row with a config.
        plan: What the user asks for.

    Returns:
        Key to the factor on what the row says, where there is one; and key to the value as text of
        what the scale sets, also where the row or the user wins.

    Raises:
        UserError: As `plan_run`.
    """
    run = plan_run(row, plan, 0)
    factors = {key: plan.scale.factors[key] for key in map(key_of, _scaled(row, plan))}
    plain = composed(run.config, run.overrides)
    values = {key: _at(plain, key) for key in map(key_of, plan.scale.train) if _holds(plain, key)}
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    return factors, texts


def _at(nested: Mapping[str, Any], key: str) -> Any:
    return reduce(lambda group, part: group[part], key.split("."), nested)


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def composed(config: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """A composed training configuration as plain containers."""
    return _composed(config, overrides)[0]


@lru_cache(maxsize=512)
def _composed(config: str, overrides: tuple[str, ...]) -> tuple[dict[str, Any], set[str]]:
    # This first: it says which command installs what both need.
    from vice.plugins.vissl.config.compose import compose_with_defaults  # isort: skip
    from omegaconf import OmegaConf

    composition, filled = compose_with_defaults([f"config={config}", *overrides])
    plain: Any = OmegaConf.to_container(composition, resolve=True)
    return dict(plain), filled


def settings(config: str, overrides: Sequence[str]) -> dict[str, str]:
    """What the result of a training follows from: dotted key to value as text, without data.

    As version 0.1 wrote it, so that runs that are there are found again.
    """
    from vice.plugins.vissl.config.earlier import earlier
    from vice.plugins.vissl.resuming import flatten

    plain, filled = _composed(config, tuple(overrides))
    flat = earlier(dict(flatten(plain["config"])), filled)
    # What is left to the machine stands for what tables said before: their runs go on as begun.
    flat |= {key: before for key, before in _SAID_BEFORE.items() if flat.get(key) == "auto"}
    return {key: value for key, value in flat.items() if not _is_harmless(f"config.{key}")}


def _is_harmless(key: str) -> bool:
    """Whether a key says where and how it is computed, and not what."""
    from vice.plugins.vissl.resuming import HARMLESS

    name = key.removeprefix("config.")
    # Global batch: together with the batch a process, these say how many images make a step.
    counts = ("DISTRIBUTED.NUM_NODES", "DISTRIBUTED.NUM_PROC_PER_NODE")
    return name.startswith(HARMLESS) and name not in counts


def run_folder(run: Run, row: Experiment, plan: ReproducePlan) -> tuple[Path, Path]:
    """Where a run lies and what it is trained on.

    Args:
        run: What `plan_run` returns.
        row: Its row.
        plan: What the user asks for.

    Returns:
        The run folder, named by the run's key, and the folder or list of its images; a list is
        written where the data set is not the config's own, or is cut by the scale.

    Raises:
        UserError: The data set is not there.
    """
    name, limit = plan.dataset(row.trained_on), plan.scale.images
    paths = composed(run.config, run.overrides)["config"]["DATA"]["TRAIN"]["DATA_PATHS"]
    if name == row.trained_on and paths and not limit:
        images, identity = Path(paths[0]), name
    else:
        images, identity = _write_list(name, limit, plan)
    backbone, trunk = (run.settings[f"MODEL.TRUNK.{key}"] for key in ("VICE.backbone", "NAME"))
    decoder = trunk.removeprefix("vice_resnet_")
    # Separators: names of timm's models hold colons, and slashes.
    model = re.sub(r"[^\w.-]", "-", f"{backbone}-{decoder}")
    folder = f"{model}-{plan.scale.name}-seed{run.seed}-{run.key(identity)}"
    return plan.out / "runs" / folder, images


def _write_list(name: str, limit: int, plan: ReproducePlan) -> tuple[Path, str]:
    known = name if name in DATASETS else "folder"
    split = get_protocol(default_protocol(known), known).fit_split
    data = open_dataset(name, plan.data_root)
    pairs = {pair.image.absolute(): pair for pair in data.pairs(split, labels=False)}
    names = {path.relative_to(data.root.absolute()).as_posix(): path for path in pairs}
    if limit and limit < len(names):
        kept = take_subset(list(names), limit / len(names), 0)
        names = {name: path for name, path in names.items() if name in kept}
    checksum = list_checksum(names)
    file = plan.out / "data" / f"{data.root.resolve().name}-{checksum[:10]}.txt"
    broken = [path for path in map(str, names.values()) if len(path.split("\n")) > 1]
    if broken:
        raise UserError(
            f"{printable(broken[0])} has a line break in its name, and a list of images has one "
            "path a line: rename it"
        )
    write_text(file, "".join(f"{path}\n" for path in names.values()))
    return file, f"{data.name} {checksum}"


def parse_datasets(texts: Sequence[str]) -> dict[str, str]:
    """The data sets of a command line: ``DATASET`` for all, ``NAME=DATASET`` in place of one.

    Raises:
        UserError: A name that no benchmark has.
    """
    replacements = {}
    for text in texts:
        name, equals, replacement = text.partition("=")
        if not equals or os.path.isdir(expand(text)):
            name, replacement = "*", text
        elif name not in DATASETS:
            raise UserError(f"--dataset {text}: {name} is none of {', '.join(DATASETS)}")
        if not replacement:
            raise UserError(f"--dataset {text!r}: {EMPTY}")
        known = replacement in DATASETS
        replacements[name] = replacement if known else expand(replacement)
    return replacements

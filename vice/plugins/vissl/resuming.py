"""What a run resumes from, and whether it may."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vice._version import __version__
from vice.errors import UserError
from vice.images.lists import fingerprint_list, list_images
from vice.models.execution import AUTO, PRECISIONS, Execution
from vice.models.training_state import PATTERN, link_newest, newest_snapshot, read_snapshot
from vice.options import flatten
from vice.plugins.vissl.config.earlier import as_before, comparable
from vice.plugins.vissl.config.machines import world
from vice.plugins.vissl.config.schema import node_at
from vice.redaction import redact
from vice.runtime.files import disk_errors
from vice.runtime.run_folder import HEALTH_NAME, read_config

#: Stands among the settings and is no reason to refuse.
_VERSION = "version of ViCE"
#: Stands among the settings for DATA.TRAIN.DATA_PATHS, which may have moved.
_IMAGES = "images"
#: Stands for a process's share of a batch, times the processes.
_STEP = "images a step"
#: What a run may leave to what is faster.
_EXECUTION, _DECIDED = "MODEL.TRUNK.EXECUTION", ("precision", "channels_last")
logger = logging.getLogger(__name__)

#: Sections and keys that may change between two parts of a run without changing its result.
HARMLESS = (
    "CHECKPOINT.",
    "DISTRIBUTED.",
    "HOOKS.",
    "LOG_FREQUENCY",
    "MACHINE.",
    "MULTI_PROCESSING_METHOD",
    "PROFILING.",
    "SLURM.",
    "VERBOSE",
    "DATA.NUM_DATALOADER_WORKERS",
    "DATA.PIN_MEMORY",
    "DATA.TRAIN.DATA_PATHS",
    "DATA.TRAIN.TRANSFORMS",
    "MODEL.TRUNK.EXECUTION.channels_last",
    "MODEL.TRUNK.EXECUTION.compiled",
    "VICE.CUT_ON",
    "VICE.DATASET.keep_mib",
    "VICE.DATASET.prepare",
    "VICE.DATASET.root",
    "VICE.FOREGROUND.cache_dir",
    "VICE.FOREGROUND.folder",
    "VICE.HEALTH.",
    "VICE.TRACKING.",
    "VICE.KEEP_CHECKPOINTS",
    "VICE.METHOD.cache_dir",
    "VICE.MAX_NONFINITE_STEPS",
    "VICE.PHOTOMETRIC_ON",
    "VICE.STOP_NOTICE_SECONDS",
    "VICE.SUPERPIXELS.cache_dir",
    "VICE.SUPERPIXELS.folder",
    "VICE.TIMEOUT_MINUTES",
)


#: Sections and keys that follow from others: what VISSL wants to be told of a method.
DERIVED = (
    "DATA.TRAIN.COLLATE_FUNCTION",
    "LOSS.",
    "MODEL.HEAD.",
    "MODEL.TRUNK.OUTPUTS.",
    "MODEL.SINGLE_PASS_EVERY_CROP",
    "TRAINER.",
)

#: What follows from settings that are compared as well: shown where nothing else differs.
_FOLLOWING = ("OPTIMIZER.param_schedulers.", "MODEL.TEMP_FROZEN_PARAMS_ITER_MAP")


def settings_of(config: Any) -> dict[str, str]:
    """What must stay as it is for a run to be resumed: dotted key to value as text.

    Args:
        config: VISSL's configuration (``config.*``).
    """
    # Redaction: states are files that others may read.
    settings = _compared(redact(dict(flatten(config))))
    images = int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config)
    settings[_STEP] = str(images)
    settings.pop("DATA.TRAIN.BATCHSIZE_PER_REPLICA", None)
    settings[_IMAGES] = fingerprint_list(list_images(str(config.DATA.TRAIN.DATA_PATHS[0])))
    settings[_VERSION] = __version__
    # Not compared, but kept: a run that leaves it to what is faster goes on as it began.
    settings |= {
        f"{_EXECUTION}.{name}": str(config.MODEL.TRUNK.EXECUTION[name]) for name in _DECIDED
    }
    return settings


def _compared(settings: dict[str, str]) -> dict[str, str]:
    skipped = HARMLESS + DERIVED
    return {key: value for key, value in settings.items() if not key.startswith(skipped)}


def prepare_resume(config: Any) -> None:
    """Points VISSL to the newest whole state of the run folder, if there is one.

    Args:
        config: VISSL's configuration; its folder is made if it is missing.

    Raises:
        UserError: The folder cannot be made, no state is whole, it belongs to a run with other
            settings, or there are states that must not be resumed from.
    """
    folder = Path(config.CHECKPOINT.DIR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"config.CHECKPOINT.DIR={folder} cannot be made: {error.strerror}"
        ) from error
    config.CHECKPOINT.USE_SYMLINK_CHECKPOINT_FOR_RESUME = False
    if not config.CHECKPOINT.AUTO_RESUME:
        if any(folder.glob(PATTERN)):
            raise UserError(
                f"{folder} holds checkpoints of an earlier run: resume it with "
                "config.CHECKPOINT.AUTO_RESUME=true, or choose another config.CHECKPOINT.DIR"
            )
        return
    # Race: read under the lock. Of two that begin at once the second waits for the first, which
    # has decided by then.
    keep_decided(config)
    newest = newest_snapshot(folder, finished=not config.CHECKPOINT.OVERWRITE_EXISTING)
    with disk_errors(folder, any_os_error=True):
        link_newest(folder, newest)
    if newest is None:
        if (folder / HEALTH_NAME).exists():
            logger.warning(
                "%s holds records of an earlier training (%s), but no state of it to go on from: "
                "it begins anew",
                folder,
                HEALTH_NAME,
            )
        return
    check_settings(newest, config)
    config.CHECKPOINT.USE_SYMLINK_CHECKPOINT_FOR_RESUME = True
    logger.info("resuming from %s", newest)


def keep_begun(config: Any, filled: Collection[str]) -> None:
    """Sets options that are younger than a run to what it was trained with, in place; says so.

    A run goes on under the command that began it, as often as it is stopped. What the command or
    its config names stays, and is refused by `check_settings` if it is something else.

    Args:
        config: ``config.*``, composed.
        filled: Keys whose values are defaults because nothing else was said.
    """
    if not config.CHECKPOINT.AUTO_RESUME:
        return
    for key, value in as_before(_settings_in(Path(config.CHECKPOINT.DIR))).items():
        group, _, name = key.rpartition(".")
        if key in filled and str(node_at(config, group)[name]) != value:
            node_at(config, group)[name] = value
            logger.warning(
                "the run in %s was trained with config.%s=%s: it goes on so, as nothing else is "
                "asked for",
                config.CHECKPOINT.DIR,
                key,
                value,
            )


def keep_decided(config: Any) -> None:
    """Sets what is ``auto`` to what the run in the folder is computed with, in place; says so.

    A run is computed in one way from its first step to its last, whatever the machine that it goes
    on with would be faster in.

    Args:
        config: VISSL's configuration.
    """
    group = config.MODEL.TRUNK.EXECUTION
    if not (config.CHECKPOINT.AUTO_RESUME and Execution(**group).undecided):
        return
    folder = Path(str(config.CHECKPOINT.DIR))
    before = _execution_in(folder)
    if before is None or before.undecided:
        return
    for name in _DECIDED:
        if group[name] == AUTO:
            group[name] = getattr(before, name)
    logger.info("the network is computed in %s, as the run in %s is", Execution(**group), folder)


def _execution_in(folder: Path) -> Execution | None:
    """How the run in a folder is computed, by its configuration or else by its states."""
    try:
        said = read_config(folder)["MODEL"]["TRUNK"]["EXECUTION"]
        return Execution(**{name: said[name] for name in _DECIDED})
    except (UserError, KeyError, TypeError):
        # Damage, or no configuration: the states are the run.
        settings = _settings_in(folder)
    if not settings:
        return None
    precision, layout = (settings.get(f"{_EXECUTION}.{name}", "") for name in _DECIDED)
    known = {str(name): name for name in PRECISIONS}
    return Execution(known.get(precision), layout == str(True))


def _settings_in(folder: Path) -> dict[str, str]:
    """Settings in a run folder's states, which are all of one run; empty if none says them."""
    for path in sorted(folder.glob(PATTERN)):
        try:
            settings = read_snapshot(path, numbers=False).get("vice", {}).get("settings")
        except UserError:
            # Damage is told of, and mended, where the run is resumed.
            continue
        if settings:
            return dict(settings)
    return {}


def check_settings(path: Path, config: Any) -> None:
    """Makes sure a state belongs to a run with these settings.

    Raises:
        UserError: Names the first settings that differ, with both values.
    """
    then = read_snapshot(path, numbers=False).get("vice", {}).get("settings")
    if then is None:
        logger.warning("%s does not say its settings; they are not compared", path)
        return
    then, now = (_compared(comparable(each)) for each in (redact(then), settings_of(config)))
    version = then.pop(_VERSION, None)
    now.pop(_VERSION)
    if _IMAGES not in then:
        logger.warning("%s does not say its images; they are not compared", path)
        now.pop(_IMAGES)
    changed = [key for key in {*then, *now} if not _same(then.get(key), now.get(key))]
    changed.sort(key=lambda key: (key.startswith(_FOLLOWING), key))
    unknown = [key for key in changed if key not in then or key not in now]
    if unknown and version != __version__:
        raise UserError(
            f"the run in {path.parent} was begun with version {version or '0.1.0'}: it can be "
            f"scored, not resumed, since only one of the versions has {', '.join(unknown[:4])}. "
            "Choose another config.CHECKPOINT.DIR"
        )
    if changed:
        chosen = [key for key in changed if not key.startswith(_FOLLOWING)] or changed
        shown = ", ".join(
            f"{_named(key)} was {then.get(key)}, is {now.get(key)}" for key in chosen[:4]
        )
        more = f" and {len(chosen) - 4} more" if len(chosen) > 4 else ""
        raise UserError(
            f"the run in {path.parent} was begun with other settings: {shown}{more}. Set them "
            "back, or choose another config.CHECKPOINT.DIR"
        )


def _same(then: str | None, now: str | None) -> bool:
    """Whether two texts are of one value; 0 and 0.0 are one number."""
    if then is None or now is None or then == now:
        return then == now
    try:
        return float(then) == float(now)
    except ValueError:
        return False


def _named(key: str) -> str:
    """A key as it is typed; what counts images has none."""
    return key if key in (_IMAGES, _STEP) else f"config.{key}"

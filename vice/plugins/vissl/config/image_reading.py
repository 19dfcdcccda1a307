"""How the images of a run are read: measured once, by what was asked for, and kept with the run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from vice.errors import UserError
from vice.images import ImageReading, Reading, reading_of
from vice.images.measure import measure
from vice.options import defaults
from vice.runtime.run_folder import read_config

logger = logging.getLogger(__name__)
_KEYS = tuple(defaults(ImageReading))


def set_reading(config: DictConfig) -> None:
    """Fills in ``config.VICE.DATASET.measured``, where scale, bands or page are asked for.

    A run that is resumed keeps what it was begun with.

    Args:
        config: ``config.*``, composed and checked.

    Raises:
        UserError: The images cannot be read as is asked for.
    """
    asked = _asked(config.VICE.DATASET)
    if not asked.is_set:
        return
    folder = Path(str(config.CHECKPOINT.DIR))
    reading = _kept(folder, asked)
    if reading is None:
        reading = measure(str(config.DATA.TRAIN.DATA_PATHS[0]), asked)
    else:
        logger.info("images are read as %s, as those of the run in %s are", reading, folder)
    with open_dict(config):
        config.VICE.DATASET.measured = reading.to_dict()


def _asked(options: Any) -> ImageReading:
    values = {key: options[key] for key in _KEYS}
    try:
        return ImageReading(values["scale"], tuple(values["bands"]), values["page"])
    except UserError as error:
        raise UserError(f"config.VICE.DATASET: {error}") from error


def _kept(folder: Path, asked: ImageReading) -> Reading | None:
    """What the run in a folder has measured; None if it was not asked for the same."""
    settings = read_config(folder).get("VICE", {})
    reading = reading_of(settings)
    if reading is None or not settings["DATASET"].keys() >= set(_KEYS):
        return None
    return reading if _asked(settings["DATASET"]) == asked else None

"""ViCE's method with the options of its configs, or others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vice.methods import Method, build_method
from vice.methods.signs import HealthMonitor
from vice.plugins.vissl.option_keys import KEYS

SETTINGS: dict[str, Any] = {
    "METHOD": {"name": "vice"},
    "STANDARDIZE": {"mode": "none"},
    "SUPERPIXELS": {"region_size": 8},
    "VIEWS": {"num_views": 2, "size": 24},
    "PHOTOMETRIC": {},
    "PROTOTYPES": {"num_prototypes": 32, "dim": 8},
    "LOSS": {},
    "CUT_ON": "workers",
    "PHOTOMETRIC_ON": "workers",
    "DATASET": {"min_images_per_epoch": 0, "keep_mib": 1},
}


def vice_method(**groups: Mapping[str, Any]) -> Method:
    """The method, with some groups of options changed."""
    return build_method({**SETTINGS, **groups})


def vice_monitor(num_prototypes: int, patience: int = 50) -> HealthMonitor:
    """What watches a training of so many prototypes, and names keys as VISSL's users set them."""
    method = vice_method(PROTOTYPES={"num_prototypes": num_prototypes, "dim": 8})
    return HealthMonitor(method.signs(), method.measures, keys=KEYS, patience=patience)

"""ViCE as a VISSL plugin: importing this package registers everything with VISSL.

Registered names: data source ``vice_images``; collator ``vice_collator``; engine ``vice_train``;
task ``vice_task``; train step ``vice_train_step``; trunk ``vice_embedder``; head and loss
``vice_method``; optimizer ``vice_lars``. VISSL is not changed. Spawned workers import this package
when they unpickle `hooks.vice_hooks`, so the names are known there as well.
"""

from __future__ import annotations

import warnings

from vice.parts import lacking

try:
    with warnings.catch_warnings():
        # VISSL 0.1.6 is frozen: what it is warned of at import will not change.
        warnings.simplefilter("ignore")
        import vissl
        import vissl.hooks
        import vissl.utils.hydra_config  # noqa: F401
except ImportError as error:
    raise lacking("training", error) from error

from vice.plugins.vissl import (
    collator,
    dataset,
    engine,
    environment,
    head,
    optimizer,
    schedules,
    search_path,
    task,
    train_step,
    trunks,
)

environment.keep_secrets()

__all__ = [
    "collator",
    "dataset",
    "engine",
    "head",
    "optimizer",
    "schedules",
    "search_path",
    "task",
    "train_step",
    "trunks",
]

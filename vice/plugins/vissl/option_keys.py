"""The one table from arguments of the core to the keys that a user of VISSL sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vice.errors import OptionError, UserError
from vice.runtime.loader_faults import loader_fault

#: Argument, as `vice.errors.OptionError` names it, to key.
KEYS = {
    "Superpixels.cache_dir": "config.VICE.SUPERPIXELS.cache_dir",
    "Superpixels.folder": "config.VICE.SUPERPIXELS.folder",
    "build_embedder.decoder=auto": "config.MODEL.TRUNK.VICE.decoder=auto",
    "join.address": "config.DISTRIBUTED.RUN_ID=HOST:PORT (on SLURM config.SLURM.PORT_ID)",
    "join.timeout": "config.VICE.TIMEOUT_MINUTES",
    "newest_snapshot.folder": "config.CHECKPOINT.DIR",
    "num_workers": "config.DATA.NUM_DATALOADER_WORKERS",
    "sole_writer.folder": "config.CHECKPOINT.DIR",
    # What a batch of a training holds, and how it is seen.
    "base_lr": "config.VICE.SCHEDULE.base_lr",
    "batch_size": "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA",
    "data_paths": "config.DATA.TRAIN.DATA_PATHS",
    "epsilon": "config.VICE.LOSS.epsilon",
    "freeze_iterations": "config.VICE.PROTOTYPES.freeze_iterations",
    "num_prototypes": "config.VICE.PROTOTYPES.num_prototypes",
    "queue_length": "config.VICE.LOSS.queue_length",
    "queue_start": "config.VICE.LOSS.queue_start",
    "region_size": "config.VICE.SUPERPIXELS.region_size",
    "superpixels": "config.VICE.SUPERPIXELS",
    "view_scale": "config.VICE.VIEWS.scale",
}


def with_keys(error: Exception) -> Exception:
    """An error as a user of VISSL is told it: arguments of the core by the keys that set them."""
    return UserError(error.spelled(KEYS)) if isinstance(error, OptionError) else error


@contextmanager
def spelled() -> Iterator[None]:
    """Lets an `OptionError` leave the block, or the function, as `with_keys` makes it.

    So does what PyTorch raises when a data loading process is lost: it does so wherever the main
    thread is at that moment.

    Raises:
        UserError: In its place.
    """
    try:
        yield
    except Exception as error:
        reported = with_keys(loader_fault(error) or error)
        if reported is error:
            raise
        raise reported from error

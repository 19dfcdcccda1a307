"""The one table from arguments of the core to the keys that a user of VISSL sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from vice.errors import OptionError, UserError
from vice.plugins.vissl.config.schema import all_options
from vice.runtime.loader_faults import loader_fault

#: What the core calls by other names than the options have, or what it says of several.
_OTHERS = {
    "Foregrounds.folder": "config.VICE.FOREGROUND.folder",
    "Superpixels.cache_dir": "config.VICE.SUPERPIXELS.cache_dir",
    "Superpixels.folder": "config.VICE.SUPERPIXELS.folder",
    "build_embedder.decoder=auto": "config.MODEL.TRUNK.VICE.decoder=auto",
    "join.address": "config.DISTRIBUTED.RUN_ID=HOST:PORT (on SLURM config.SLURM.PORT_ID)",
    "join.timeout": "config.VICE.TIMEOUT_MINUTES",
    "newest_snapshot.folder": "config.CHECKPOINT.DIR",
    "num_workers": "config.DATA.NUM_DATALOADER_WORKERS",
    "sole_writer.folder": "config.CHECKPOINT.DIR",
    "batch_size": "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA",
    "data_paths": "config.DATA.TRAIN.DATA_PATHS",
    "superpixels": "config.VICE.SUPERPIXELS",
    "view_scale": "config.VICE.VIEWS.scale",
}


def keys_of(options: Iterable[str]) -> dict[str, str]:
    """Names of options that stand in one place alone, and their keys.

    Args:
        options: Dotted keys without ``config.``.
    """
    places: dict[str, set[str]] = {}
    for key in options:
        places.setdefault(key.rpartition(".")[2], set()).add(f"config.{key}")
    return {name: min(keys) for name, keys in places.items() if len(keys) == 1}


#: Argument, as `vice.errors.OptionError` names it, to key.
KEYS = {**keys_of(all_options()), **_OTHERS}


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

"""YAPF, which MMEngine formats configs with, imported beside other processes that do the same."""

from __future__ import annotations

import importlib
import pickle
import time

from vice.errors import UserError

#: Seconds between two looks at a cache that another process is writing, and the number of looks.
_PAUSE, _LOOKS = 0.1, 20


def import_formatter() -> None:
    """Imports YAPF.

    Race condition: YAPF gives its cached grammar the final name before all of it is in the file,
    and who reads it then finds its end too early.

    Raises:
        UserError: The cache stays cut off, as after a full disk.
    """
    for look in range(_LOOKS):
        try:
            importlib.import_module("yapf.yapflib.yapf_api")
            return
        except (EOFError, pickle.UnpicklingError):
            if look < _LOOKS - 1:
                time.sleep(_PAUSE)
    raise UserError(
        f"{_cache()}: a cached grammar of YAPF is cut off; remove this folder, it is made again"
    )


def _cache() -> str:
    import platformdirs

    return platformdirs.user_cache_dir(appname="YAPF", appauthor="Google")

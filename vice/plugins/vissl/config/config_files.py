"""What the files of a configuration are: which Hydra would read, and whether one has changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec

from vice.paths import config_root

_VARIABLE = re.compile(r"\boc\.env:\s*([^,}\s]+)")


def read_by_hydra() -> tuple[object, ...]:
    """Everything that a composition of the same files follows from, to be compared.

    Returns:
        The places where Hydra looks, in its order; of each YAML file in them when it was written,
        its size and its number; and the variables of the environment that one of them asks for.
    """
    # VISSL's plugin for Hydra looks into a folder and a package of this name first.
    package = find_spec("configs")
    packaged = (package and package.submodule_search_locations) or ()
    places = (os.path.abspath("configs"), *packaged, str(config_root()))
    # In a checkout all of them are one folder.
    stamps = {path: stamp for place in set(places) for path, stamp in _files(place)}
    names = {name for file in stamps.items() for name in _variables(*file)}
    environment = {name: os.environ.get(name) for name in names}
    return places, frozenset(stamps.items()), frozenset(environment.items())


def _files(place: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Paths and stamps of all YAML files that can be looked at, behind links too."""
    seen = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        whole = os.path.realpath(folder)
        if whole in seen:
            # A link that leads back.
            folders.clear()
            continue
        seen.add(whole)
        for name in files:
            if name.endswith((".yaml", ".yml")):
                path = os.path.join(folder, name)
                try:
                    found = os.stat(path)
                except OSError:
                    # A link that leads nowhere, or that others may follow alone.
                    continue
                yield path, (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=4096)
def _variables(path: str, stamp: tuple[int, ...]) -> tuple[str, ...]:
    """Variables of the environment that a file names. Memoization: until it is written again."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return tuple(_VARIABLE.findall(file.read()))
    except OSError:
        return ()

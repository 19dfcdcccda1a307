"""The files of a configuration: which Hydra would read, what they name, whether one has changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import yaml

from vice.errors import UserError
from vice.paths import config_root

_ANY_PACKAGE = re.compile(r"#\s*@package\s+(\S+)\s*$")
#: That of libyaml, where PyYAML comes with it, takes a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BYTE_ORDER_MARK = "\ufeff"
_VARIABLE = re.compile(r"\boc\.env:\s*([^,}\s]+)")


def read_by_hydra() -> tuple[object, ...]:
    """Everything that a composition of the same files follows from, to be compared.

    Returns:
        The places where Hydra looks, in its order; of each YAML file in them when it was written,
        its size and its number; and the variables of the environment that one of them asks for.
    """
    places = _places()
    # In a checkout all of them are one folder.
    stamps = {path: stamp for place in set(places) for path, stamp in _files(place)}
    names = {name for file in stamps.items() for name in _variables(*file)}
    environment = {name: os.environ.get(name) for name in names}
    return places, frozenset(stamps.items()), frozenset(environment.items())


def _places() -> tuple[str, ...]:
    # VISSL's plugin for Hydra looks into a folder and a package of this name first.
    package = find_spec("configs")
    packaged = (package and package.submodule_search_locations) or ()
    return os.path.abspath("configs"), *packaged, str(config_root())


def _files(place: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Paths and stamps of all YAML files that can be looked at, behind links too."""
    seen = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        try:
            found = os.stat(folder)
        except OSError:
            continue
        if (found.st_dev, found.st_ino) in seen:
            # A link that leads back.
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
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


class ConfigFile(NamedTuple):
    """A config file that is read.

    Attributes:
        name: From the root.
        path: Of the file.
        text: In it.
        content: The text as YAML; none if it is not valid.
        package: Where its settings land, dotted; empty for the top.
        says_package: Whether it says so itself.
    """

    name: str
    path: str
    text: str
    content: dict[Any, Any]
    package: str
    says_package: bool

    @property
    def config(self) -> str:
        """As in ``config=NAME``; empty if that does not name it, or its settings land elsewhere."""
        group, _, name = self.name.partition("/")
        return "" if self.package or group != "config" else name


def read_with(name: str) -> Iterator[ConfigFile]:
    """A config file, as in ``config=NAME``, and those of its defaults list, and of theirs.

    Raises:
        UserError: One cannot be read, is no text in UTF-8, or holds no keys.
    """
    # Group: what `config=` names is looked up from there, wherever below it lies.
    left, seen = [_Named(f"config/{name}", "config", "")], set()
    while left:
        each = left.pop()
        path = _path(each.name)
        if path is None or path in seen:
            continue
        seen.add(path)
        text = _text(path)
        content = _content(path, text)
        first = next((line for line in text.splitlines() if line.strip()), "")
        said = _ANY_PACKAGE.match(first)
        package = each.package if said is None else said[1].replace("_global_", "")
        yield ConfigFile(each.name, path, text, content, package, said is not None)
        left += _named(content, each.group, package)


def _path(name: str) -> str | None:
    """The file of a config, named from the root; None if there is none."""
    files = (os.path.join(place, f"{name}.yaml") for place in _places())
    return next(filter(os.path.isfile, files), None)


class _Named(NamedTuple):
    """A config file in a defaults list.

    Attributes:
        name: From the root.
        group: What names in its own list that begin without a slash start from.
        package: Where its settings land if it says nothing of it, dotted; empty for the top.
    """

    name: str
    group: str
    package: str


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8 ({error.reason}): save it so") from error


def _content(path: str, text: str) -> dict[Any, Any]:
    try:
        content = yaml.load(text.removeprefix(BYTE_ORDER_MARK), Loader=_LOADER)
    except yaml.YAMLError:
        # Hydra says what is wrong with it.
        return {}
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, but must hold keys and values")
    return content or {}


def _named(content: dict[Any, Any], group: str, package: str) -> Iterator[_Named]:
    """Config files in the defaults list of one; those that an entry puts elsewhere not.

    Args:
        content: Of the file.
        group: What names without a leading slash start from.
        package: Where its own settings land.
    """
    entries = content.get("defaults")
    for entry in entries if isinstance(entries, list) else ():
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for key, value in pairs:
            below = str(key).split()[-1] if str(key).strip() else ""
            for each in value if isinstance(value, list) else [value]:
                # A group is a folder; a package behind @ says itself where settings land.
                name = f"{below}/{each}" if below else str(each)
                if each is None or "@" in name or "${" in name:
                    continue
                whole = name[:1] == "/"
                full = os.path.normpath(name.lstrip("/") if whole else f"{group}/{name}")
                folder = os.path.dirname(name.strip("/") if whole else name).replace("/", ".")
                lands = folder if whole else ".".join(filter(None, (package, folder)))
                yield _Named(full, os.path.dirname(full), lands)

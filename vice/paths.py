"""Where the files that travel with ViCE lie, in a checkout and in an installed wheel."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from collections.abc import Iterable
from pathlib import Path

from vice.errors import UserError
from vice.nearest import did_you_mean, near_path

#: What is said of a path of no characters.
EMPTY = "empty, as a shell variable is that is not set; give a name or a path"


def config_root() -> Path:
    """The folder that holds ``mmseg/`` and ``config/vice/``.

    Returns:
        ``vice/configs`` beside this file when installed from a wheel, else the ``configs`` folder
        of the checkout.

    Raises:
        UserError: Neither exists.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "configs", package.parent / "configs"):
        if root.is_dir():
            return root
    raise UserError(
        f"no configs beside {package}; install ViCE from its wheel, or in a checkout with "
        "`pip install -e .`"
    )


def requirements(part: str) -> Path:
    """The pinned list of a part's packages, as ``vice install`` installs it.

    Args:
        part: ``training`` or ``scoring``.

    Raises:
        UserError: It did not travel along.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "requirements", package.parent / "requirements"):
        if (root / f"{part}.txt").is_file():
            return root / f"{part}.txt"
    raise UserError(f"no list of packages for {part} beside {package}; install ViCE from its wheel")


def experiment_names() -> list[str]:
    """Names that ``config=`` accepts in training, such as ``vice/folder``."""
    root = config_root() / "config"
    names = (file.relative_to(root).with_suffix("") for file in root.glob("vice/*.yaml"))
    return sorted(str(name) for name in names)


def tool(name: str) -> Path:
    """A command-line script that travels with ViCE.

    Args:
        name: File name, such as ``run_distributed.py``.

    Returns:
        Its path, in ``vice/tools`` when installed from a wheel, else in the checkout's ``tools``.

    Raises:
        UserError: Neither holds it.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "tools", package.parent / "tools"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"no {name} beside {package}; install ViCE from its wheel or a checkout")


def check_there(
    path: str | Path,
    option: str = "",
    what: str = "file or folder",
    otherwise: str = "check the path",
) -> None:
    """Sees whether what somebody names is there.

    Args:
        path: What was typed.
        option: What stands before it in the message, such as ``"--lists: "``.
        what: What it should be.
        otherwise: What to say where nothing is like it.

    Raises:
        UserError: It is not there; names what lies nearby under a similar name.
    """
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if not os.path.exists(path):
        shown = str(path) or "an empty name"
        raise UserError(f"{option}{shown}: no such {what}{near_path(path, otherwise)}")


def check_experiment(name: str, folder: str = "") -> None:
    """Sees whether ``config=NAME`` names an experiment.

    Args:
        name: With its folder, ``vice/folder``.
        folder: What stands before names that are offered, where it has to be typed as well.

    Raises:
        UserError: It does not; names a similar one, or all.
    """
    # VISSL looks into the folder that a command is called in, too.
    place = os.path.join("configs", "config")
    if os.path.isabs(name) or name.startswith("~") or name.endswith((".yaml", ".yml")):
        meant = "/".join(Path(os.path.splitext(name)[0]).parts[-2:])
        remedy = (
            f"put it into {place}/vice of the folder that you call from, and give its name there"
        )
        raise UserError(
            f"config={name}: a config is given by its name, without folder and ending: "
            + (f"config={meant}" if meant in experiment_names() else remedy)
        )
    if not name.strip():
        raise UserError(f"config={name}: names no config; say which, as config=vice/folder")
    other = os.path.join(place, f"{name}.yml")
    if os.path.isfile(other):
        raise UserError(f"config={name}: {other} must end in .yaml: rename it")
    own = os.path.isfile(os.path.join(place, f"{name}.yaml"))
    if name not in experiment_names() and not own:
        # VISSL looks for one of the user's own there.
        owns = sorted(f"vice/{file.stem}" for file in Path(place, "vice").glob("*.yaml"))
        names = dict.fromkeys([*experiment_names(), *owns])
        known, short = [each.removeprefix("vice/") for each in names], name.removeprefix("vice/")
        choice = f"choose one of {', '.join(folder + each for each in known)}"
        near = did_you_mean(short, known, choice, before=folder)
        raise UserError(f"no config {(name if folder else short)!r}{near}")


def check_config(overrides: Iterable[str]) -> None:
    """Sees whether overrides name an experiment in ``config=NAME``, if they name any.

    Raises:
        UserError: As of `check_experiment`.
    """
    for text in overrides:
        for name in config_names(text):
            check_experiment(name, "vice/")


def config_names(override: str) -> list[str]:
    """The configs that ``config=NAME`` or ``config=[NAME,NAME]`` names; of other overrides none.

    The same key with a group in braces sets values.
    """
    key, _, value = override.partition("=")
    value = value.strip()
    if key != "config" or value.startswith("{"):
        return []
    names = value.removeprefix("[").removesuffix("]").split(",")
    return [name.strip().strip("'\"") for name in names]


def typed_path(text: str) -> Path:
    """Type of an option: a path, with the ``~`` that a shell leaves alone in ``--out=~/eval``.

    Raises:
        ArgumentTypeError: It is empty, which would stand for the working directory.
    """
    return Path(os.path.expanduser(_not_empty(text)))


def typed_text(text: str) -> str:
    """The same of a text that may be a path or hold one: ``random:~/run``, ``timm:NAME@~/file``."""
    return text_from_home(_not_empty(text))


def text_from_home(text: str) -> str:
    """A text that may be a path or hold one, with the home folder for each ``~``.

    Args:
        text: Such as ``~/run``, ``random:~/run`` or ``timm:NAME@~/file``.
    """
    return re.sub(r"(?:^|(?<=[:@=]))~[^/:@=]*", lambda match: os.path.expanduser(match[0]), text)


def from_home(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder for its first ``~``, as a shell puts it.

    Args:
        path: What was written; an object of a path, such as `pathlib.Path`, stays as it is, since
            ``./~`` and ``~`` are one and the same to it.
    """
    return Path(os.path.expanduser(path) if isinstance(path, str) else path)


def _not_empty(text: str) -> str:
    if not text:
        raise ArgumentTypeError(EMPTY)
    return text

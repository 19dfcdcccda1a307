"""``vice train``: plain options for the overrides that ``tools/run_distributed.py`` takes."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vice.cli import IN_CONFIG, Parser, show, whole
from vice.errors import UserError
from vice.images import ImageReading, list_images
from vice.images.reading_options import asked_reading
from vice.names import name_bytes, printable
from vice.options import options_of
from vice.parts import check_part
from vice.paths import check_experiment, config_names, typed_path
from vice.runtime.answers import answer
from vice.runtime.files import check_folder, make_folder, replace_atomically
from vice.runtime.folder_lock import sole_launcher
from vice.runtime.overrides import quote
from vice.runtime.own_folder import keep_others_from_run
from vice.runtime.preemption import watch_signals
from vice.runtime.run_folder import CONFIG_NAME, read_overrides

#: In the run folder: the images of several places.
LIST_NAME = "image_list.txt"
#: How an override begins.
_CHANGE = re.compile(r"~|[+]{0,2}[A-Za-z_][\w.]*=")
_IMAGES, _FOLDER = "config.DATA.TRAIN.DATA_PATHS", "config.CHECKPOINT.DIR"
EXAMPLE = """\
examples:
  vice train --images photos
  vice train folder_imagenet --images photos more/photos --out outputs/photos
  vice train folder --images photos config.OPTIMIZER.num_epochs=4
  vice train --images scenes --scale p1,p99 --bands 4,3,2 --out outputs/scenes
  vice train --resume --out outputs/photos
  vice train folder --images photos config.SLURM.USE_SLURM=true config.SLURM.PARTITION=gpu \\
      config.MACHINE.DEVICE=gpu config.DISTRIBUTED.NUM_PROC_PER_NODE=2
  vice train folder --options

CONFIG is a name of configs/config/vice, KEY=VALUE an option of it: vice train CONFIG --options
prints each, with what it means and what it may be. The same command, or --resume, goes on with a
run that was stopped or killed.
"""
#: Said where it is stopped.
KEPT = "states that were saved stay, and the same command goes on"


def main() -> int:
    """Trains; the command line is that of the process."""
    args = _parse()
    try:
        with ExitStack() as held:
            return _main(args, held)
    except UserError as error:
        raise UserError(_by_options(str(error), args)) from error


def _main(args: argparse.Namespace, held: ExitStack) -> int:
    if args.resume:
        words = _moved(read_overrides(args.out), args.out)
    else:
        changes = [*args.changes, *reading_words(args)]
        _checked(args.config, args.images, args.out, changes)
        _look(args)
        # Before the list of several places is written.
        check_part("training")
        if len(args.images or ()) > 1 and args.out is not None and not args.options:
            # Until the training holds the folder itself, another list could take its place.
            held.enter_context(sole_launcher(args.out))
        words = overrides(args.config, args.images, args.out, changes)
    if args.options:
        from vice.plugins.vissl.config.compose import help_text

        answer(help_text(words))
        return 0
    with watch_signals():
        # Importing VISSL takes seconds, and help needs none of it.
        from vice.plugins.vissl.train import train

        show(train(words))
    return 0


def overrides(
    config: str, images: Sequence[Path] | None, out: Path | None, changes: Sequence[str]
) -> list[str]:
    """The words of ``tools/run_distributed.py``.

    Args:
        config: Name of an experiment, with or without ``vice/``.
        images: Folders, lists or files to train on, with any characters in their names; None keeps
            the config's.
        out: The run folder; None keeps the config's.
        changes: Further overrides.

    Raises:
        UserError: No such config, an override says again what an option says, or several places
            of images without a folder for their list.

    Example:
        >>> from pathlib import Path
        >>> from vice.command.train import overrides
        >>> overrides("folder", [Path("/a b")], None, [])
        ['config=vice/folder', "config.DATA.TRAIN.DATA_PATHS=['/a b']"]
    """
    words = [f"config={_checked(config, images, out, changes)}"]
    if images:
        words.append(f"{_IMAGES}=[{quote(_one_place(images, out).absolute())}]")
    if out:
        words.append(f"{_FOLDER}={quote(out.absolute())}")
    return [*words, *changes]


def _checked(
    config: str, images: Sequence[Path] | None, out: Path | None, changes: Sequence[str]
) -> str:
    """The whole name of a config, after a look at what does not go together."""
    name = config if config.startswith("vice/") else f"vice/{config}"
    check_experiment(name)
    for key, option, given in ((_IMAGES, "--images", images), (_FOLDER, "--out", out)):
        if given and any(text.lstrip("+").startswith(f"{key}=") for text in changes):
            raise UserError(f"{option} and {key} say the same: give one of them")
    return name


def _by_options(text: str, args: argparse.Namespace) -> str:
    """A message in which keys that an option of this command stands for are called by it."""
    for key, option in ((_IMAGES, "--images"), (_FOLDER, "--out")):
        if not any(change.lstrip("+").startswith(f"{key}=") for change in args.changes):
            # A list in brackets is how the key alone is given.
            text = re.sub(rf"{re.escape(key)}(?![\w.]|=\[)", option, text)
    return text


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """``--scale``, ``--bands`` and ``--page``, the options of `vice.images.ImageReading`."""
    meanings = {name: each.meaning for name, each in options_of(ImageReading).items()}
    parser.add_argument("--scale", metavar="BLACK,WHITE", help=_help(meanings["scale"]))
    parser.add_argument("--bands", metavar="R,G,B", help=_help(meanings["bands"]))
    parser.add_argument("--page", type=whole(1, 65_536), help=_help(meanings["page"]))


def _help(meaning: str) -> str:
    # Percent signs: argparse fills in values.
    return meaning.partition("; ")[0].replace("%", "%%")


def reading_words(args: argparse.Namespace) -> list[str]:
    """The overrides that the options of `add_reading_options` stand for.

    Raises:
        UserError: They say how no image can be read, or an override says the same.
    """
    asked = asked_reading(args.scale, args.bands, args.page)
    words = []
    for name, value in (("scale", asked.scale), ("bands", asked.bands), ("page", asked.page)):
        if not value:
            continue
        key = f"config.VICE.DATASET.{name}"
        if any(text.lstrip("+").startswith(f"{key}=") for text in args.changes):
            raise UserError(f"--{name} and {key} say the same: give one of them")
        if isinstance(value, tuple):
            words.append(f"{key}=[{','.join(map(str, value))}]")
        else:
            # Percentiles: a comma outside of quotes ends a value.
            words.append(f"{key}={quote(value) if isinstance(value, str) else value}")
    return words


def _look(args: argparse.Namespace) -> None:
    """Refuses what cannot be trained on or written to, before anything heavy is imported."""
    for place in args.images or ():
        list_images(place)
    if args.out is not None:
        check_folder("--out", args.out)
        keep_others_from_run(args.out)


def _one_place(images: Sequence[Path], out: Path | None) -> Path:
    """What training is given: one place, or the list of the images of several."""
    if len(images) == 1:
        return images[0]
    if out is None:
        raise UserError("several --images need --out, the folder that their list is kept in")
    paths = dict.fromkeys(path.absolute() for place in images for path in list_images(place))
    strange = next((path for path in paths if "\n" in str(path)), None)
    if strange is not None:
        raise UserError(f"{printable(str(strange))}: no list can hold this name; rename it")
    text = "".join(f"{path}\n" for path in paths)
    make_folder(out)
    file, content = out / LIST_NAME, name_bytes(text)
    is_other = file.exists() and file.read_bytes() != content
    if is_other and (out / CONFIG_NAME).exists():
        raise UserError(
            f"{printable(str(out))} holds a training on other images ({LIST_NAME}): give those, "
            "or choose another --out"
        )
    replace_atomically(file, lambda new: Path(new).write_bytes(content))
    return file


def _parse() -> argparse.Namespace:
    parser = Parser(
        description="Trains on a folder of images, or by a named config.",
        usage="vice train [CONFIG] [--images PATH ...] [--out DIR] [--resume] [KEY=VALUE ...]",
        epilog=EXAMPLE,
        otherwise=IN_CONFIG,
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="CONFIG KEY=VALUE", help="a config (folder), and its options")
    add("--images", nargs="+", type=_place_or_change, metavar="PATH",
        help="what to train on: a folder, a text file with a path a line; several need --out, "
        "where their list is kept")  # fmt: skip
    add_reading_options(parser)
    add("--out", type=typed_path, metavar="DIR", help="run folder (the config's, outputs/CONFIG)")
    add("--resume", action="store_true", help="go on with the run in --out, as it was begun")
    add("--options", action="store_true", help="print every option of the config, and end")
    args = parser.parse_intermixed_args()
    # An option that takes several values takes what comes behind them, too.
    args.words += [word for word in args.images or () if isinstance(word, str)]
    args.images = [place for place in args.images or () if isinstance(place, Path)] or None
    args.changes = [word for word in args.words if "=" in word or word.startswith("~")]
    names = [word for word in args.words if word not in args.changes]
    configs = [word for word in args.changes if config_names(word)]
    args.changes = [word for word in args.changes if word not in configs]
    names += [name for word in configs for name in config_names(word)]
    if len(names) > 1:
        parser.error(f"one CONFIG, not {' and '.join(names)} (paths come behind --images)")
    if (
        names
        and (os.sep in names[0].removeprefix("vice/") or os.path.isdir(names[0]))
        and not args.images
    ):
        parser.error(f"no config {names[0]!r}: paths come behind --images")
    said = [*args.changes, *reading_words(args)]
    if args.resume and (names or args.images or said or args.options):
        parser.error("--resume goes on with the run in --out as it was begun: give nothing else")
    if args.resume and args.out is None:
        parser.error("--resume needs --out, the folder of the run")
    args.config = names[0] if names else "folder"
    return args


def _place_or_change(text: str) -> Path | str:
    """Type of ``--images``: KEY=VALUE stays text, unless there is a file or folder of that name."""
    return text if _CHANGE.match(text) and not os.path.exists(text) else typed_path(text)


def _moved(words: list[str], out: Path) -> list[str]:
    """The overrides of a run whose folder may have another name by now."""
    kept = out.absolute() / LIST_NAME
    moved = []
    for word in words:
        if word.startswith(f"{_IMAGES}=") and LIST_NAME in word and kept.is_file():
            moved.append(f"{_IMAGES}=[{quote(kept)}]")
        elif not word.lstrip("+").startswith(f"{_FOLDER}="):
            moved.append(word)
    return [*moved, f"{_FOLDER}={quote(out.absolute())}"]

"""Names that a shell, Hydra, OmegaConf, YAML or SLURM reads as something else than a path.

A case worked if the path arrives as it was typed, and also if the message of a refusal holds a
command that bash hands on so that it does.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import labels, runs, slurm
from tests.hostile.case import Action, Family
from vice.experiments.train import quote

Rng = np.random.Generator
Name = Callable[[Rng], str]
GROUP = "paths"
SHARE = 0.04
#: Words before a command to be pasted.
OFFER = "; to take the path literally: "
DATA, HELD_OUT = "config.DATA.TRAIN.DATA_PATHS", "config.VICE.HEALTH.held_out_paths"
_MEANINGFUL = frozenset("'\"[]{}$\\")


def pasted(command: str) -> list[str]:
    """The arguments that bash gives to ``python`` in a command."""
    script = "python() { printf '%s\\0' \"$@\"; }; " + command
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def accepted(overrides: list[str]) -> Any:
    """The configuration of a command, or of the one that the message about it offers."""
    from vice.errors import UserError, one_line
    from vice.plugins.vissl.config.compose import compose
    from vice.plugins.vissl.config.inputs import check_data

    def configuration(given: list[str]) -> Any:
        config = compose(["config=vice/folder", *given]).config
        check_data(config)
        return config

    try:
        return configuration(overrides)
    except UserError as error:
        _, offered, command = one_line(error).rpartition(OFFER)
        if not offered:
            raise
    tool, *arguments = pasted(command)
    if Path(tool).name != "run_distributed.py":
        raise ValueError(f"{command} calls {tool}")
    return configuration([text for text in arguments if text != "config=vice/folder"])


def _value(config: Any, key: str) -> Any:
    from omegaconf import OmegaConf

    for part in key.split(".")[1:]:
        config = config[part]
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def _paths(config: Any, keys: Iterable[str]) -> dict[str, Any]:
    """The paths of some keys, from the folder that the command runs in."""
    found = {key: _value(config, key) for key in keys}
    return {
        key: [os.path.abspath(path) for path in value]
        if isinstance(value, list)
        else os.path.abspath(value)
        for key, value in found.items()
    }


def _arrives(wanted: dict[str, Any], found: dict[str, Any]) -> str | None:
    return None if found == wanted else f"{found} and not {wanted}"


def _typed(overrides: list[str], wanted: dict[str, Any], **more: Any) -> Action:
    return Action(
        run=lambda: _paths(accepted(overrides), wanted), check=partial(_arrives, wanted), **more
    )


def _photos(folder: Path, rng: Rng) -> str:
    return f"{DATA}=[{runs.images(folder / 'photos', rng, 1)}]"


def _images(name: str, folder: Path, rng: Rng) -> Action:
    runs.images(folder / name, rng, 1)
    return _typed([f"{DATA}=[{name}]"], {DATA: [str(folder / name)]})


def _held_out(name: str, folder: Path, rng: Rng) -> Action:
    runs.images(folder / name, rng, 1)
    both = ",".join([quote(Path(name)), "photos"])
    return _typed(
        [_photos(folder, rng), f"{HELD_OUT}=[{both}]"],
        {HELD_OUT: [str(folder / name), str(folder / "photos")]},
    )


def _weights(name: str, folder: Path, rng: Rng) -> Action:
    (folder / name).write_bytes(b"weights")
    key = "config.MODEL.TRUNK.VICE.weights"
    # The words that the key knows are no files.
    typed = f"./{name}" if name.lower() in ("null", "imagenet") else name
    return _typed([_photos(folder, rng), f"{key}={typed}"], {key: str(folder / name)})


def _new_folder(name: str, folder: Path, rng: Rng) -> Action:
    """A folder to be made; Hydra's own quotes where it gives the characters a meaning."""
    keys = ("CHECKPOINT.DIR", "VICE.SUPERPIXELS.cache_dir", "SLURM.LOG_FOLDER")
    key = f"config.{keys[int(rng.integers(len(keys)))]}"
    typed = name
    if _MEANINGFUL & set(name) or name != name.strip() or "\n" in name:
        typed = quote(Path(name))
    elif name.lower() == "null":
        typed = f"./{name}"
    return _typed([_photos(folder, rng), f"{key}={typed}"], {key: str(folder / name)})


def _demo(name: str, folder: Path, rng: Rng) -> Action:
    """What the demo and the tables of the papers give to a training, and read back later."""
    from vice.experiments import train as training

    images, out = runs.images(folder / name, rng, 1), folder / f"{name}-run"
    out.mkdir()
    command = training._command("vice/folder", images, out, [])
    wanted = [str(images)]

    def run() -> Any:
        from vice.plugins.vissl.config.configure import configure, write_config

        _, config = configure(command[2:])
        write_config(config)
        return config, training.read_config(out)

    def check(found: Any) -> str | None:
        config, again = found
        read = config.DATA.TRAIN.DATA_PATHS, again["DATA"]["TRAIN"]["DATA_PATHS"]
        return None if read == (wanted, wanted) else f"{read} and not {wanted}"

    return Action(run=run, check=check, writes=(out,))


def _dataset(name: str, folder: Path, rng: Rng) -> Action:
    runs.labelled(folder / name, rng, 1)
    return Action(
        run=lambda: labels.evaluate(name, Path(f"{name}-out")),
        check=lambda found: None if len(found) == 2 else f"{len(found)} images were read",
    )


def _of_table(name: str, folder: Path, rng: Rng) -> Action:
    from vice.experiments.reproduce.plan import parse_datasets

    runs.labelled(folder / name, rng, 1)
    given = [f"cityscapes19={name}", name]
    wanted = {"cityscapes19": str(folder / name), "*": str(folder / name)}
    return Action(
        run=lambda: parse_datasets(given),
        check=lambda found: None if found == wanted else f"{found} and not {wanted}",
    )


_DOORS = (
    *(_images,) * 3, _held_out, _weights, _new_folder, _demo, _dataset, _of_table,
)  # fmt: skip


def _named(name: Name, folder: Path, rng: Rng) -> Action:
    door = _DOORS[int(rng.integers(len(_DOORS)))]
    return door(name(rng), folder, rng)


def _pick(*names: str) -> Name:
    return lambda rng: str(rng.choice(list(names)))


def _around(*parts: str) -> Name:
    """One of the parts at any place of a name."""

    def make(rng: Rng) -> str:
        part, place = str(rng.choice(list(parts))), int(rng.integers(3))
        return ("", "ph", "photos")[place] + part + ("photos", "otos", "")[place]

    return make


def _mixed(rng: Rng) -> str:
    letters = [*"ab1.-_ ,;:=+@%&#~!*?()[]{}<>|^'\"`$\\\t\nü照", "${", "\u2028", "\u00a0"]
    name = "".join(rng.choice(letters, int(rng.integers(1, 12))))
    return f"a{name}" if name in (".", "..") or name.startswith("~") else name


_NAMES: Mapping[str, Name] = {
    "brackets": _around("(2023)", "[1]", "{a}", "[", "]", "{", "}", "(", ")", "[a,b]", "{a: 1}"),
    "quotes": _around("'", '"', "it's", "''", "'\"", "\\'", "' '", '"a"'),
    "commas": _around(",", "a,b", ",,", ", ", "a,b,c", "\\,"),
    "dollars": _around("$", "$HOME", "$$", "$(ls)", "${HOME}", "`ls`", "$1"),
    "interpolations": _around("${oc.env:HOME}", "${config.SEED_VALUE}", "\\${a}", "${", "a${b}c"),
    "backslashes": _around("\\", "\\\\", "\\ ", "\\n", "\\(", "\\$", "\\:"),
    "numbers": _pick("2023", "07", "1e3", "12", ".5", "1_000", "0x10", "-1", "+1", "inf", "nan"),
    "words": _pick("null", "NULL", "true", "False", "on", "off", "yes", "None", "???", "imagenet"),
    "signs": _around("=", "a=b", "#", "@", "&", ";", "%20", "%j", "!", "*", "?", "|", "<>", "^"),
    "tildes": _around("~1", "a~b", "photos~", "~~"),
    "letters": _around("müller", "照片", "фото", "é", "صور", "🙂", "ß", "\u00a0"),
    "spaces": _pick("my photos", "a  b", " lead", "trail ", "tab\there", "new\nline", "a\u2028b"),
    "functions": _pick("sort(1)", "choice(a,b)", "glob(*)", "str(1)", "range(3)", "tag(a)"),
    "dashes": _pick("-photos", "--out", "-", "--", "-1"),
    "any": _mixed,
}  # fmt: skip


def _at_home(folder: Path, rng: Rng) -> Action:
    """``~`` where a shell leaves it alone, at each kind of key."""
    runs.images(folder / "photos (1)", rng, 1)
    typed = str(rng.choice(["[~/photos (1)]", "['~/photos (1)']", '["~/photos (1)"]']))
    wanted = {
        DATA: [str(folder / "photos (1)")],
        "config.CHECKPOINT.DIR": str(folder / "run"),
        "config.VICE.SUPERPIXELS.cache_dir": str(folder / "~"),
    }
    given = [f"{DATA}={typed}", "config.CHECKPOINT.DIR=~/run"]
    given += ["config.VICE.SUPERPIXELS.cache_dir=./~"]
    return _typed(given, wanted, environment={"HOME": str(folder)})


def _parted(folder: Path, rng: Rng) -> Action:
    """A path with spaces that nobody has quoted for the shell."""
    name = str(rng.choice(["my photos", "my it's photos", "the photos (of 2023)", "a b c"]))
    runs.images(folder / name, rng, 1)
    if rng.random() < 0.5:
        return _typed(f"{DATA}=[{name}]".split(" "), {DATA: [str(folder / name)]})
    key = "config.CHECKPOINT.DIR"
    given = [_photos(folder, rng), *f"{key}={name}".split(" ")]
    return _typed(given, {key: str(folder / name)})


def _interpolated(folder: Path, rng: Rng) -> Action:
    """What Hydra's users mean by quotes, escapes and ``${...}`` goes on meaning it."""
    runs.images(folder / "a, b", rng, 1)
    looked_up = "['${config.VICE.DATASET.root}/a, b']"
    typed = str(rng.choice(["['a, b']", '["a, b"]', r"[a\,\ b]", looked_up]))
    wanted = {DATA: [str(folder / "a, b")], HELD_OUT: [str(folder / "a, b")]}
    given = [f"{DATA}={typed}", f"{HELD_OUT}=${{{DATA}}}", f"config.VICE.DATASET.root={folder}"]
    return _typed(given, wanted)


def _data_root(folder: Path, rng: Rng) -> Action:
    """The folder of the benchmarks, from the environment or the command line."""
    name = _mixed(rng) if rng.random() < 0.5 else str(rng.choice(["07", "${x}", "a b", "it's"]))
    runs.images(folder / name / "coco" / "images" / "train2017", rng, 1)
    given = ["config=vice/coco_lowres", "config.MODEL.TRUNK.VICE.weights=null"]
    environment = {}
    if rng.random() < 0.5:
        environment["VICE_DATA"] = name
    else:
        given.append(f"config.VICE.DATASET.root={quote(Path(name))}")

    def run() -> Any:
        from vice.plugins.vissl.config.compose import compose
        from vice.plugins.vissl.config.inputs import check_data

        config = compose(given).config
        check_data(config)
        return _paths(config, wanted)

    wanted = {DATA: [str(folder / name / "coco" / "images" / "train2017")]}
    return Action(run=run, check=partial(_arrives, wanted), environment=environment)


def _log_folder(folder: Path, rng: Rng) -> Action:
    """The script for SLURM writes its logs into the very folder."""
    name = _NAMES[str(rng.choice(["quotes", "dollars", "brackets", "signs", "letters"]))](rng)
    more = [f"config.SLURM.LOG_FOLDER={quote(folder / name)}"]
    action = slurm._submission(more, ("config.SLURM.LOG_FOLDER",), slurm.ACCEPTS, folder, rng)

    def check(said: Any) -> str | None:
        lines = (folder / "submitted.sh").read_text().splitlines()
        flags = [shlex.split(line)[1] for line in lines if line.startswith("#SBATCH --output")]
        wanted = f"--output={folder / name}/"
        good = len(flags) == 1 and flags[0].startswith(wanted)
        # SLURM has a meaning of its own for these.
        return None if good and not {"%", "\\"} & set(name) else f"{flags} and not {wanted}"

    return replace(action, check=check)


def _missing(folder: Path, rng: Rng) -> Action:
    name = _NAMES[str(rng.choice(["numbers", "words", "letters", "signs"]))](rng)
    key = str(rng.choice([DATA, HELD_OUT]))
    given = [f"{DATA}=[{name}]"] if key == DATA else [_photos(folder, rng), f"{key}=[{name}]"]
    return Action(run=lambda: accepted(given), names=(name,))


def _two(folder: Path, rng: Rng) -> Action:
    """Two folders where one is wanted: no command makes one of them."""
    for name in ("one", "two"):
        runs.images(folder / name, rng, 1)
    return Action(run=lambda: accepted([f"{DATA}=[one,two]"]), names=(DATA,))


FAMILY = Family(
    GROUP,
    {
        **{kind: ("worked", partial(_named, name)) for kind, name in _NAMES.items()},
        "home": ("worked", _at_home),
        "parted": ("worked", _parted),
        "hydra": ("worked", _interpolated),
        "data-root": ("worked", _data_root),
        "log-folder": ("either", _log_folder),
        "missing": ("refused", _missing),
        "two-folders": ("refused", _two),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

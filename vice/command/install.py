"""``vice install``: what training or scoring needs, in the versions that were tested together.

VISSL's own pins can no longer be met, so no resolver installs it. Each part is a complete list of
pinned packages, without what the core has brought along, and is installed without looking at their
dependencies.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from vice.cli import Parser, show
from vice.errors import UserError
from vice.parts import PARTS, is_there
from vice.paths import requirements
from vice.runtime.answers import answer

#: Packages of which the wheel of another one holds an older copy. Pip installs them after it; with
#: other programs either may come last.
OVERWRITTEN = {"classy-vision": "vissl"}


@dataclass(frozen=True)
class Pin:
    """One package of a list.

    Attributes:
        name: As the index has it.
        wanted: Its pinned version.
        found: The version that is installed; None: none is.
        overwritten: Whether another package has put files of its own in the place of its files.
    """

    name: str
    wanted: str
    found: str | None
    overwritten: bool = False

    @property
    def same(self) -> bool:
        """Whether nothing needs to be done."""
        return self.found == self.wanted and not self.overwritten


#: Said where it is stopped.
KEPT = "the same command begins again"


def main() -> int:
    """Says what will be installed, asks, and installs it."""
    parser = Parser(description=__doc__.replace("``", ""))
    add = parser.add_argument
    add("parts", nargs="+", choices=PARTS, metavar="PART", help=" or ".join(PARTS))
    add("--yes", action="store_true", help="do not ask")
    add("--dry-run", action="store_true", help="say what would be installed, and end")
    args = parser.parse_args()
    lists = {part: requirements(part) for part in dict.fromkeys(args.parts)}
    pins = {pin.name: pin for path in lists.values() for pin in read_pins(path)}
    command = _pip() + [word for path in lists.values() for word in ("-r", str(path))]
    done = args.dry_run or all(pin.same for pin in pins.values())
    tell = answer if done else show
    tell(f"{describe(list(pins.values()))}\nby: {' '.join(command)}")
    if done:
        return 0
    if not args.yes and not _agreed():
        raise UserError("nothing was installed; --yes installs without asking")
    _run(command)
    again = [f"{pin.name}=={pin.wanted}" for pin in pins.values() if is_overwritten(pin.name)]
    if again:
        _run([*_pip(), "--force-reinstall", *again])
    show(f"installed: {', '.join(lists)}")
    return 0


def _run(command: list[str]) -> None:
    status = subprocess.run(command, check=False).returncode
    if status:
        raise UserError(
            f"pip ended with status {status}, see above; the same command goes on where it was"
        )


def read_pins(path: Path) -> list[Pin]:
    """The packages of a list that this Python, system and machine need, and what is installed.

    Args:
        path: Lines ``NAME==VERSION``, with or without a marker behind a semicolon.
    """
    parse = _parser()
    pins = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = parse(text)
        if requirement.marker is None or requirement.marker.evaluate():
            wanted = next(iter(requirement.specifier)).version
            name = requirement.name
            pins.append(Pin(name, wanted, _installed(name), is_overwritten(name)))
    return pins


def describe(pins: list[Pin]) -> str:
    """What an installation would do, in a few lines."""
    new = [f"{pin.name} {pin.wanted}" for pin in pins if pin.found is None]
    changed = [
        f"{pin.name} {pin.found} to {pin.wanted}"
        for pin in pins
        if pin.found and pin.found != pin.wanted
    ]
    damaged = [f"{pin.name} by {OVERWRITTEN[pin.name]}" for pin in pins if pin.overwritten]
    lines = [f"{sum(pin.same for pin in pins)} of {len(pins)} packages are there as they should be"]
    if new:
        lines.append(f"new ({len(new)}): {', '.join(new)}")
    if changed:
        lines.append(f"of another version ({len(changed)}): {', '.join(changed)}")
    if damaged:
        lines.append(f"overwritten, to be put back ({len(damaged)}): {', '.join(damaged)}")
    lines.append("PyTorch, torchvision, NumPy, Pillow and OpenCV stay as they are")
    return "\n".join(lines)


def missing(part: str) -> bool:
    """Whether a part is not installed."""
    return not is_there(PARTS[part][1])


def is_overwritten(name: str) -> bool:
    """Whether files of a package are not those that it was installed with."""
    if name not in OVERWRITTEN:
        return False
    try:
        files = [file for file in distribution(name).files or [] if file.suffix == ".py"]
    except PackageNotFoundError:
        return False
    paths = [(Path(str(file.locate())), file.size) for file in files]
    return any(size and path.is_file() and path.stat().st_size != size for path, size in paths)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is None:
        lists = " ".join(f"-r {requirements(part)}" for part in PARTS)
        raise UserError(
            "this environment has no pip; install the lists with what made it, for example "
            f"uv pip install --no-deps {lists}, and then once more, with --reinstall, "
            f"{', '.join(OVERWRITTEN)}, of which another one brings an older copy"
        )
    return [sys.executable, "-m", "pip", "install", "--no-deps"]


def _parser() -> Any:
    """The reader of requirements; pip has its own where the package is not installed."""
    for name in ("packaging", "pip._vendor.packaging"):
        if importlib.util.find_spec(name.partition(".")[0]):
            return import_module(f"{name}.requirements").Requirement
    _pip()
    raise AssertionError


def _agreed() -> bool:
    if not sys.stdin or not sys.stdin.isatty():
        return False
    return input("Install? [y/N] ").strip().lower() in ("y", "yes")

"""How much of a machine's cores a container or a job may use, by Linux's control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Where control groups are mounted.
ROOT = Path("/sys/fs/cgroup")
#: What says in which of them a process is.
OWN = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float | None:
    """Cores' worth of time that this process is given, all of its groups considered.

    A limit such as ``docker run --cpus 2`` or that of a Kubernetes pod is not seen in the number of
    cores that a process may run on: more threads than it run for a part of each period, and are
    then stopped together.

    Args:
        root: Where control groups are mounted.
        own: The process's groups, as ``/proc/self/cgroup`` lists them.

    Returns:
        The smallest limit; None where there is none, or where nothing can be read of it.

    Source: Linux, Control Group v2 (``cpu.max``) and v1 (``cpu.cfs_quota_us``).
    """
    try:
        lines = own.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    limits = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            limits += [_unified(folder) for folder in _upward(root, path)]
            # Hybrid mode: the unified hierarchy beside those of the first version.
            limits += [_unified(folder) for folder in _upward(root / "unified", path)]
        elif "cpu" in controllers.split(","):
            for mount in {"cpu", controllers}:
                limits += [_first_version(folder) for folder in _upward(root / mount, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def _upward(mount: Path, path: str) -> Iterator[Path]:
    """A group's folder and those above it.

    Namespaces: what a container sees mounted may be its own group, whatever its path is called.
    """
    group = Path(path.lstrip("/"))
    for part in (group, *group.parents):
        if ".." not in part.parts:
            yield mount / part


def _unified(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    return _ratio(*words) if len(words) == 2 else None


def _first_version(folder: Path) -> float | None:
    words = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
    return _ratio(*words) if len(words) == 2 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


def _ratio(quota: str, period: str) -> float | None:
    """Microseconds of a period; ``max`` and -1 mean that there is no limit."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)

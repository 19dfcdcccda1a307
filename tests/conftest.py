"""What several test files share."""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

# Tests run beside one another and beside training processes: threads would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from tests.helpers import slurm

torch.set_num_threads(1)

#: Modules with long tests, those with the longest one first, before all others.
FIRST = (
    "test_kernels",
    "test_hostile",
    "test_reproduce",
    "test_kills",
    "test_add_a_method",
    "test_steps",
    "test_other_systems",
    "test_ranks",
    "test_evaluations",
    "test_faults",
    "test_repeat",
    "test_run",
    "test_finetune",
    "test_stops",
    "test_timm",
    "test_notebook",
    "test_install",
    "test_benchmarks",
    "test_parts",
    "test_watching",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--slow``: for those who change what they test, and before a release."""
    parser.addoption("--slow", action="store_true", help="run the slow tests as well")


def pytest_report_header(config: pytest.Config) -> str | None:
    """What is left out is said."""
    if _slow_are_asked_for(config):
        return None
    return "slow tests are left out: --slow, or make test-all, runs them, too"


def pytest_collection() -> None:
    """Test modules are imported: what they make stays, and is looked through once, in the end."""
    gc.disable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lets no process end with the longest tests while the others have nothing left to do."""
    if not _slow_are_asked_for(config):
        named = [text.split("::", 1) for text in config.args if "::" in text]
        slow = {
            item for item in items if item.get_closest_marker("slow") and not _is_of(item, named)
        }
        config.hook.pytest_deselected(items=[item for item in items if item in slow])
        items[:] = [item for item in items if item not in slow]
    items.sort(key=_turn)


def pytest_collection_finish(session: pytest.Session) -> None:
    """All test modules, and what they need, have been imported."""
    if getattr(session.config.option, "loadgroup", False):
        lost = [item for item in session.items if _group(item) and "@" not in item.nodeid]
        if lost:
            raise pytest.UsageError("pytest-xdist does not group tests under this pytest")
    importlib.import_module("tests.helpers.frozen")
    gc.enable()


def _slow_are_asked_for(config: pytest.Config) -> bool:
    return config.getoption("--slow") or "slow" in config.getoption("-m")


def _is_of(item: pytest.Item, named: list[list[str]]) -> bool:
    """Whether a test is one of those that a command line names: file, and class, test or case."""
    own = item.nodeid.split("::", 1)[1]
    return any(
        os.path.abspath(file) == str(item.path)
        and (own == name or own.startswith((f"{name}[", f"{name}::")))
        for file, name in named
    )


def _turn(item: pytest.Item) -> int:
    # What runs in one process, as all on SLURM, must not be left for the end.
    if _group(item):
        return 0
    stem = item.path.stem
    return 1 + (FIRST.index(stem) if stem in FIRST else len(FIRST))


def _group(item: pytest.Item) -> pytest.Mark | None:
    return item.get_closest_marker("xdist_group")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ragged_regions(rng: np.random.Generator, maps: int, height: int, width: int) -> np.ndarray:
    """Maps with blocks of any size, holes, a one-pixel region, id 0, and one map without any."""
    regions = np.full((maps, height, width), -1, np.int32)
    for number in range(maps):
        for _ in range(int(rng.integers(1, 6))):
            y, x = rng.integers(height), rng.integers(width)
            side_y, side_x = rng.integers(1, height), rng.integers(1, width)
            regions[number, y : y + side_y, x : x + side_x] = rng.choice([0, 1, 2, 7, 65535])
        regions[number, rng.integers(height), rng.integers(width)] = 3
        regions[number, : height // 4] = -1
    return regions


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory):
    """A run folder with an untrained model, for everything that only loads one."""
    from vice.models import Prototypes, seeded_embedder
    from vice.models.checkpoint import save_run

    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    embedder = seeded_embedder(1, backbone="resnet18", decoder="fpn", dim=16)
    save_run(folder, embedder, Prototypes(16, 6), {"seed": 1})
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of a test run to ask for it makes, and the others find."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / name, base / f"{name}.made"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # What a failure has left would not be made anew, but gone on with.
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    """The environment of a SLURM of two nodes; one for all tests, whose group must be "slurm"."""
    if reason := slurm.missing():
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment

"""Run folders without exported weights: copied, mixed and damaged states of training."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import runs
from tests.hostile.case import Action, Expected, Family
from tests.hostile.damage import flip, truncate
from tests.hostile.own_files import OWN

Rng = np.random.Generator
#: Lays states into a folder; gives the mark of the one that must be loaded.
Lay = Callable[[Path, Rng], float]
GROUP = "states of a run"
SHARE = 0.03


def _bare_run(folder: Path) -> Path:
    """A run folder of a training that has not ended."""
    run = runs.run_folder(folder)
    (run / OWN).unlink()
    (run / "architecture.json").write_bytes((run / "vice.json").read_bytes())
    (run / "vice.json").unlink()
    return run


def _trunk() -> dict[str, torch.Tensor]:
    from vice.models import build_embedder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_embedder(**runs.EMBEDDER).state_dict()


def write(path: Path, iteration: int, phase: int, mark: float) -> Path:
    """A state as VISSL has it; the first of its prototypes holds a mark."""
    prototypes = torch.full((5, 4), 0.5)
    prototypes[0, 0] = mark
    trunk = {f"embedder.{name}": value for name, value in _trunk().items()}
    model = {"trunk": trunk, "heads": {"0.prototypes.weight": prototypes}}
    torch.save(
        {
            "iteration": iteration,
            "phase_idx": phase,
            "classy_state_dict": {"base_model": {"model": model}},
        },
        path,
    )
    return path


def _epochs(run: Path, rng: Rng) -> list[Path]:
    """States at the ends of some epochs, the mark of each its iteration."""
    steps = int(rng.integers(2, 40))
    numbers = sorted(rng.choice(np.arange(1, 12), 3, replace=False).tolist())
    return [
        write(run / f"model_phase{n}.torch", (n + 1) * steps, n, (n + 1) * steps) for n in numbers
    ]


def _mark(path: Path) -> float:
    state = torch.load(path, weights_only=True)
    model = state["classy_state_dict"]["base_model"]["model"]
    return float(model["heads"]["0.prototypes.weight"][0, 0])


def _set_times(paths: list[Path], times: Any) -> None:
    for path, seconds in zip(paths, times, strict=True):
        os.utime(path, (float(seconds), float(seconds)), follow_symlinks=False)


def _shuffled(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    _set_times(paths, 1.7e9 + rng.permutation(len(paths)))
    _set_times(paths[:1], [1.8e9])
    return _mark(paths[-1])


def _backwards(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    _set_times(paths, 1.7e9 - np.arange(len(paths)) * rng.integers(1, 9999))
    return _mark(paths[-1])


def _unpacked(run: Path, rng: Rng) -> float:
    """All times are one, or those of 1970."""
    paths = _epochs(run, rng)
    _set_times(paths, [float(rng.integers(2)) * 1.7e9] * len(paths))
    more = write(run / f"model_iteration{10**4}.torch", 10**4, 12, 10**4)
    _set_times([more], [0])
    return 10.0**4


def _ends_of_epochs(run: Path, rng: Rng) -> float:
    """An epoch's last step and its end have one iteration."""
    step, phase = int(rng.integers(5, 99)), int(rng.integers(1, 9))
    inside = write(run / f"model_iteration{step}.torch", step, phase - 1, 1)
    end = write(run / f"model_phase{phase}.torch", step, phase, 2)
    _set_times([end, inside], [1.6e9, 1.7e9])
    return 2


def _hurt(path: Path, rng: Rng) -> None:
    data = path.read_bytes()
    change = (truncate, flip, lambda d, r: b"", lambda d, r: b"<html>404</html>")
    path.write_bytes(change[int(rng.integers(len(change)))](data, rng))


def _damaged(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    path = paths[-1]
    path.write_bytes(truncate(path.read_bytes(), rng))
    _set_times(paths, 1.7e9 - np.arange(3))
    return _mark(paths[-2])


def _all_but_first_damaged(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    for path in paths[1:]:
        # In the numbers, where only a checksum tells.
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    return _mark(paths[0])


def _others_between(run: Path, rng: Rng) -> float:
    """Files of the same suffix that are no states, and newer."""
    mark = _mark(_epochs(run, rng)[-1])
    torch.save({"batch": torch.zeros(3)}, run / "nonfinite_rank0.torch")
    torch.save(torch.zeros(3), run / f"queue{rng.integers(9)}.torch")
    (run / "notes.torch").write_text("mine")
    newest = [run / "nonfinite_rank0.torch", run / "notes.torch"]
    _set_times(newest, 1.9e9 + rng.permutation(2))
    return mark


def _old_link(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    (run / "checkpoint.torch").symlink_to(paths[int(rng.integers(2))].name)
    _set_times(paths, 1.7e9 - np.arange(3))
    return _mark(paths[-1])


def _dangling(run: Path, rng: Rng) -> float:
    mark = _mark(_epochs(run, rng)[-1])
    (run / "model_phase99.torch").symlink_to("gone.torch")
    (run / "checkpoint.torch").symlink_to("model_phase98.torch")
    return mark


def _linked(run: Path, rng: Rng) -> float:
    """States on another disk, linked to."""
    paths = _epochs(run, rng)
    mark = _mark(paths[-1])
    store = run.parent / "store"
    store.mkdir()
    for path in paths:
        target = path.rename(store / f"{rng.integers(10**9)}-{path.name}")
        path.symlink_to(target)
    return mark


def _by_name(run: Path, rng: Rng) -> float:
    """Order of the names is not order of the numbers."""
    first = int(rng.integers(2, 10))
    numbers = (first, first * 10, first * 100)
    paths = [write(run / f"model_iteration{n}.torch", n, 0, n) for n in numbers]
    _set_times(paths, 1.7e9 - np.arange(3))
    return numbers[-1]


def _lying_names(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    mark = _mark(paths[-1])
    order = rng.permutation(3)
    for path in paths:
        path.rename(path.with_suffix(".moved"))
    for path, other in zip(paths, order, strict=True):
        path.with_suffix(".moved").rename(paths[other])
    return mark


def _left_behind(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    for suffix in (".part", ".broken", f".{rng.integers(99)}.part", "~", ".bak"):
        write(run / f"model_phase50.torch{suffix}", 9999, 50, 77)
    return _mark(paths[-1])


def _no_files(run: Path, rng: Rng) -> float:
    """A folder and a pipe under the name of a state."""
    mark = _mark(_epochs(run, rng)[-1])
    (run / "model_phase60.torch").mkdir()
    os.mkfifo(run / "model_phase61.torch")
    return mark


def _foreign_state(run: Path, rng: Rng) -> float:
    """Files of the right name that are no states: without or with an odd iteration."""
    mark = _mark(_epochs(run, rng)[-1])
    odd: tuple[Any, ...] = (None, "99999", 1e9, True, [1], float("nan"))
    torch.save({"iteration": odd[int(rng.integers(6))]}, run / "model_phase70.torch")
    torch.save({"state_dict": {}}, run / "model_best.torch")
    return mark


def _equally_far(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    (run / f"model_copy{rng.integers(99)}.torch").write_bytes(paths[-1].read_bytes())
    _set_times(paths, 1.7e9 - np.arange(3))
    return _mark(paths[-1])


def _final(run: Path, rng: Rng) -> float:
    paths = _epochs(run, rng)
    final = write(run / "model_final_checkpoint_phase13.torch", 10**5, 13, 13)
    _set_times([final, *paths], 1.7e9 + np.arange(4))
    return 13


def _loads(lay: Lay) -> Callable[[Path, Rng], Action]:
    def make(folder: Path, rng: Rng) -> Action:
        import vice

        run = _bare_run(folder)
        mark = lay(run, rng)

        def check(found: Any) -> str | None:
            got = float(found.checkpoint.prototypes.weight[0, 0])
            return None if got == mark else f"state {got} was loaded, not {mark}"

        return Action(run=lambda: vice.load(run, device="cpu"), names=(str(run),), check=check)

    return make


def _nothing_whole(folder: Path, rng: Rng) -> Action:
    import vice

    run = _bare_run(folder)
    for path in _epochs(run, rng):
        _hurt(path, rng)
        if path.stat().st_size and path.read_bytes()[:2] == b"PK":
            path.write_bytes(truncate(path.read_bytes(), rng))
    return Action(run=lambda: vice.load(run, device="cpu"), names=(str(run),))


def _no_state(folder: Path, rng: Rng) -> Action:
    import vice

    run = _bare_run(folder)
    for name in ("nonfinite_rank0", "weights", "checkpoint")[: int(rng.integers(4))]:
        torch.save({"state_dict": {}}, run / f"{name}.torch")
    return Action(run=lambda: vice.load(run, device="cpu"), names=(str(run),))


_LAYS: dict[str, Lay] = {
    "times-shuffled": _shuffled,
    "times-backwards": _backwards,
    "times-equal": _unpacked,
    "ends-of-epochs": _ends_of_epochs,
    "furthest-cut": _damaged,
    "furthest-flipped": _all_but_first_damaged,
    "others-between": _others_between,
    "link-to-older": _old_link,
    "link-to-nothing": _dangling,
    "states-linked": _linked,
    "order-of-names": _by_name,
    "names-that-lie": _lying_names,
    "left-behind": _left_behind,
    "folder-and-pipe": _no_files,
    "no-states": _foreign_state,
    "equally-far": _equally_far,
    "final": _final,
}
_GENERATORS: dict[str, tuple[Expected, Callable[[Path, Rng], Action]]] = {
    **{name: ("worked", _loads(lay)) for name, lay in _LAYS.items()},
    "nothing-whole": ("refused", _nothing_whole),
    "no-state-at-all": ("refused", _no_state),
}
FAMILY = Family(GROUP, _GENERATORS)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn

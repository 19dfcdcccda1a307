"""States on disk against every way a file can be spoilt."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from vice.errors import UserError
from vice.models.training_state import (
    PATTERN,
    damage,
    final_state,
    furthest_snapshot,
    link_newest,
    name_inside,
    name_of_epoch,
    newest_snapshot,
    read_snapshot,
    remove_old,
    remove_parts,
    states_of_epochs,
    write_snapshot,
)


def state(iteration: int, phase: int = 0) -> dict:
    weights = torch.arange(20_000.0) + iteration
    return {"iteration": iteration, "phase_idx": phase, "weights": weights}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "model_iteration3.torch"
    write_snapshot(path, state(3))
    assert damage(path) == ""
    found = read_snapshot(path)
    assert found["iteration"] == 3
    assert torch.equal(found["weights"], state(3)["weights"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_names_of_states_say_what_they_are(tmp_path):
    for number in (2, 10, 1):
        (tmp_path / name_of_epoch(number, final=False)).touch()
        (tmp_path / name_inside(7 * number)).touch()
    assert final_state(tmp_path) is None
    (tmp_path / name_of_epoch(11, final=True)).touch()
    (tmp_path / "nonfinite_rank0.torch").touch()
    assert final_state(tmp_path) == tmp_path / "model_final_checkpoint_phase11.torch"
    epochs = [(number + 1, f"model_phase{number}.torch") for number in (1, 2, 10)]
    found = [(number, path.name) for number, path in states_of_epochs(tmp_path)]
    assert found == [*epochs, (12, "model_final_checkpoint_phase11.torch")]
    assert len(list(tmp_path.glob(PATTERN))) == 7
    assert name_inside(3) == "model_iteration3.torch"
    remove_old(tmp_path, 1)
    assert [path.name for path in tmp_path.glob("model_iter*")] == [name_inside(70)]


def test_every_cut_and_flips_of_tensor_data_are_noticed(tmp_path):
    path = tmp_path / "model_phase0.torch"
    write_snapshot(path, state(1))
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert damage(path), length
    at = whole.index(state(1)["weights"].numpy().tobytes())
    for offset in (0, 1_000, 79_999):
        flipped = bytearray(whole)
        flipped[at + offset] ^= 1
        path.write_bytes(flipped)
        assert "checksum" in damage(path)


def test_the_furthest_whole_state_is_found(tmp_path, caplog):
    assert newest_snapshot(tmp_path) is None
    write_snapshot(tmp_path / "model_phase0.torch", state(10, phase=0))
    write_snapshot(tmp_path / "model_iteration10.torch", state(10, phase=-1))
    # The one of the end of the epoch is further than the one before its last hooks.
    assert newest_snapshot(tmp_path).name == "model_phase0.torch"
    newer = tmp_path / "model_iteration12.torch"
    write_snapshot(newer, state(12))
    assert newest_snapshot(tmp_path) == newer
    newer.write_bytes(newer.read_bytes()[:-50])
    (tmp_path / "model_iteration14.torch").write_bytes(b"half")
    assert newest_snapshot(tmp_path).name == "model_phase0.torch"
    broken = sorted(path.name for path in tmp_path.glob("*.broken"))
    assert broken == ["model_iteration12.torch.broken", "model_iteration14.torch.broken"]
    assert caplog.text.count("set aside") == 2


def test_looking_for_the_furthest_changes_nothing(tmp_path):
    write_snapshot(tmp_path / "model_phase9.torch", state(10, phase=9))
    # The older file is the newer one on this disk, as in a copied folder.
    write_snapshot(tmp_path / "model_phase0.torch", state(1, phase=0))
    write_snapshot(tmp_path / "model_phase10.torch", state(11, phase=10))
    cut = tmp_path / "model_phase10.torch"
    cut.write_bytes(cut.read_bytes()[:-50])
    os.mkfifo(tmp_path / "model_phase11.torch")
    (tmp_path / "model_phase12.torch").symlink_to("gone")
    before = sorted(os.listdir(tmp_path))
    found = furthest_snapshot(tmp_path)
    assert found.path == tmp_path / "model_phase9.torch"
    names = sorted(path.name for path in found.damaged)
    assert names == [f"model_phase{number}.torch" for number in (10, 11, 12)]
    assert sorted(os.listdir(tmp_path)) == before


def test_a_finished_training_may_be_left_out(tmp_path):
    write_snapshot(tmp_path / "model_phase0.torch", state(1))
    write_snapshot(tmp_path / "model_final_checkpoint_phase1.torch", state(2, 1))
    assert "final" in newest_snapshot(tmp_path).name
    assert newest_snapshot(tmp_path, finished=False).name == "model_phase0.torch"


def test_nothing_whole_is_an_error_and_loses_nothing(tmp_path):
    (tmp_path / "model_phase0.torch").write_bytes(b"half")
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        newest_snapshot(tmp_path)
    assert (tmp_path / "model_phase0.torch.broken").read_bytes() == b"half"


class Payload:
    def __reduce__(self):
        return os.system, ("true",)


def test_no_code_runs(tmp_path):
    path = tmp_path / "model_phase0.torch"
    torch.save({"iteration": 1, "other": Payload()}, path)
    with pytest.raises(UserError, match="more than tensors"):
        read_snapshot(path)
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match="more than tensors"):
        read_snapshot(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(UserError, match="not the state of a training"):
        read_snapshot(path)


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "model_phase0.torch"
    write_snapshot(path, state(1))

    def full(_, name):
        with open(name, "wb") as file:
            file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="free some space"):
        write_snapshot(path, state(2))
    assert read_snapshot(path)["iteration"] == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_link_moves(tmp_path):
    for name in ("model_phase0.torch", "model_phase1.torch"):
        write_snapshot(tmp_path / name, state(1))
        link_newest(tmp_path, tmp_path / name)
        assert (tmp_path / "checkpoint.torch").resolve() == (tmp_path / name).resolve()
    link_newest(tmp_path, None)
    link_newest(tmp_path, None)
    assert not os.path.lexists(tmp_path / "checkpoint.torch")


def test_only_old_states_inside_epochs_go(tmp_path):
    names = ["model_phase0.torch", *(f"model_iteration{number}.torch" for number in (9, 10, 100))]
    for name in [*names, "half.part"]:
        (tmp_path / name).touch()
    remove_old(tmp_path, 2)
    remove_parts(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["model_iteration10.torch", "model_iteration100.torch", "model_phase0.torch"]

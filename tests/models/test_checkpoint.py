"""Checkpoints: round trips, bad files, and files that would like to run code."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections import OrderedDict

import pytest
import torch

from vice.errors import UserError
from vice.models import Prototypes, build_embedder
from vice.models.checkpoint import load_checkpoint, load_embedder, save_run
from vice.models.foreign import read_tensors
from vice.models.training_state import newest_snapshot
from vice.runtime.run_folder import ARCHITECTURE_NAME


def same_weights(one, two):
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("decoder", ["fpn", "deeplabv3plus"])
def test_round_trip(tmp_path, decoder):
    embedder = build_embedder("resnet18", decoder, 8)
    prototypes = Prototypes(8, 5)
    path = save_run(tmp_path / "run", embedder, prototypes, {"seed": 3})
    for where in (tmp_path / "run", path):
        loaded = load_checkpoint(where)
        assert same_weights(loaded.embedder, embedder)
        assert torch.equal(loaded.prototypes.weight, prototypes.weight)
        assert loaded.meta == {"seed": 3}
        assert not loaded.embedder.training
        assert not any(value.requires_grad for value in loaded.embedder.parameters())
    assert json.loads((tmp_path / "run" / "vice.json").read_text())["embedder"]["dim"] == 8


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"epoch": 4, "epochs": 8}, "epoch 4 of 8"),
        ({"epoch": 8, "epochs": 8}, None),
        ({"epoch": 4}, None),
        ({"epoch": "4", "epochs": None}, None),
    ],
)
def test_weights_of_a_training_that_has_not_ended_say_so(tmp_path, caplog, meta, said):
    save_run(tmp_path, build_embedder(dim=4), None, meta)
    embedder = load_checkpoint(tmp_path).embedder
    assert embedder.provenance.get("unfinished") == said
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == (said is not None) and all(said in line for line in warned)


def test_without_prototypes(tmp_path):
    save_run(tmp_path, build_embedder(dim=4))
    assert load_checkpoint(tmp_path).prototypes is None


def test_specs(run_dir):
    trained = load_embedder(str(run_dir))
    fresh = load_embedder(f"random:{run_dir}", seed=2)
    again = load_embedder(f"random:{run_dir}", seed=2)
    assert fresh.config == trained.config
    assert same_weights(fresh, again)
    assert not same_weights(fresh, trained)
    named = load_embedder("random:resnet18-deeplabv3plus-6")
    assert (named.config["decoder"], named.dim) == ("deeplabv3plus", 6)
    with pytest.raises(UserError, match="neither a checkpoint's path nor BACKBONE-DECODER-DIM"):
        load_embedder("random:resnet18")


def test_missing_empty_and_broken(tmp_path, run_dir):
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(UserError, match="holds no vice.safetensors"):
        load_checkpoint(tmp_path)
    whole = (run_dir / "vice.safetensors").read_bytes()
    broken = tmp_path / "vice.safetensors"
    for content in (b"", b"\x00" * 100, whole[: len(whole) // 2], whole[:50]):
        broken.write_bytes(content)
        with pytest.raises(UserError, match="vice.safetensors"):
            load_checkpoint(tmp_path)


def test_safetensors_of_somebody_else(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="was not written by ViCE"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_weights_that_do_not_fit_are_named(tmp_path):
    from safetensors.torch import save_file

    card = {"format": 1, "embedder": build_embedder(dim=4).config}
    tensors = {f"embedder.{k}": v for k, v in build_embedder(dim=5).state_dict().items()}
    save_file(tensors, tmp_path / "bad.safetensors", {"vice": json.dumps(card)})
    with pytest.raises(UserError, match="decoder.lateral.0.weight"):
        load_checkpoint(tmp_path / "bad.safetensors")


def test_format_of_the_future(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", {"vice": '{"format": 99}'})
    with pytest.raises(UserError, match="has format 99; this version reads 1"):
        load_checkpoint(tmp_path / "new.safetensors")
    # As a trunk that was exported for other libraries says of itself.
    save_file({"x": torch.zeros(1)}, tmp_path / "trunk.safetensors", {"vice": '{"file": "x"}'})
    with pytest.raises(UserError, match="holds no run: of an export give the run"):
        load_checkpoint(tmp_path / "trunk.safetensors")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("detonated",)


def test_pickles_with_code_do_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"bomb": Bomb(), "weight": torch.arange(3)}, "bomb.torch")
    content = read_tensors("bomb.torch")
    assert content["weight"].tolist() == [0, 1, 2]
    assert not os.path.exists("detonated")
    with open("raw.torch", "wb") as file:
        pickle.dump(Bomb(), file)
    with pytest.raises(UserError):
        load_checkpoint("raw.torch")
    assert not os.path.exists("detonated")


def vissl_like(embedder, prototypes):
    trunk = OrderedDict((f"embedder.{k}", v) for k, v in embedder.state_dict().items())
    heads = OrderedDict({"0.prototypes.weight": prototypes.weight})
    model = {"trunk": trunk, "heads": heads}
    return {"classy_state_dict": {"base_model": {"model": model}}, "iteration": 1, "phase_idx": 0}


def test_vissl_layout(tmp_path):
    embedder, prototypes = build_embedder(dim=4), Prototypes(4, 3)
    torch.save(vissl_like(embedder, prototypes), tmp_path / "model_phase0.torch")
    with pytest.raises(UserError, match="has no architecture.json beside it"):
        load_checkpoint(tmp_path)
    (tmp_path / ARCHITECTURE_NAME).write_text(json.dumps({"embedder": embedder.config}))
    loaded = load_checkpoint(tmp_path)
    assert same_weights(loaded.embedder, embedder)
    assert torch.equal(loaded.prototypes.weight, prototypes.weight)


def test_a_state_says_which_epoch_it_is_of_not_what_the_first_file_says(tmp_path, caplog):
    """The card of a run is written before its first step, and states of all epochs share it."""
    embedder = build_embedder(dim=4)
    card = {"embedder": embedder.config, "meta": {"epoch": 0, "epochs": 3, "seed": 5}}
    (tmp_path / ARCHITECTURE_NAME).write_text(json.dumps(card))
    for phase, said in enumerate(("epoch 1 of 3", "epoch 2 of 3", None)):
        file = tmp_path / f"model_phase{phase}.torch"
        content = vissl_like(embedder, Prototypes(4, 3))
        torch.save(content | {"train_phase_idx": phase, "iteration": 7 * (phase + 1)}, file)
        for of_epoch in (False, True):
            caplog.clear()
            loaded = load_checkpoint(file, of_epoch=of_epoch)
            assert loaded.embedder.provenance.get("unfinished") == said
            warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
            assert len(warned) == (said is not None and not of_epoch)
            wanted = {"epoch": phase + 1, "epochs": 3, "seed": 5, "iteration": 7 * (phase + 1)}
            assert loaded.meta == wanted


def test_a_run_folder_gives_its_furthest_whole_state(tmp_path, caplog):
    """As resuming goes on from it; the times of the files, which a copy changes, do not matter."""
    embedder = build_embedder(dim=4)
    (tmp_path / ARCHITECTURE_NAME).write_text(json.dumps({"embedder": embedder.config}))
    files = {}
    for phase in (0, 2, 10, 11):
        prototypes = Prototypes(4, 3 + phase)
        files[phase] = tmp_path / f"model_phase{phase}.torch"
        content = vissl_like(embedder, prototypes) | {"iteration": 5 * phase, "phase_idx": phase}
        torch.save(content, files[phase])
        os.utime(files[phase], (2e9 - phase, 2e9 - phase))
    torch.save({"batch": torch.zeros(3)}, tmp_path / "nonfinite_rank0.torch")
    files[11].write_bytes(files[11].read_bytes()[:-30])
    loaded = load_checkpoint(tmp_path)
    assert loaded.path == files[10] and len(loaded.required_directions()) == 13
    (line,) = caplog.messages
    assert "taking model_phase10.torch" in line and "model_phase11.torch" in line
    assert files[11].exists()
    assert newest_snapshot(tmp_path) == files[10]
    for path in (files[0], files[2], files[10]):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no state in it is whole, for example model_phase"):
        load_checkpoint(tmp_path)


def test_torch_files_that_are_no_runs(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.torch")
    with pytest.raises(UserError, match="is no run or checkpoint of ViCE: it has no model state"):
        load_checkpoint(tmp_path / "a.torch")
    (tmp_path / "b.torch").write_bytes((tmp_path / "a.torch").read_bytes()[:100])
    with pytest.raises(UserError, match="is not a whole PyTorch checkpoint"):
        load_checkpoint(tmp_path / "b.torch")


def test_flipped_bits_are_noticed(run_dir, tmp_path):
    data = bytearray((run_dir / "vice.safetensors").read_bytes())
    data[-5] ^= 1
    (tmp_path / "vice.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="is damaged: its checksum"):
        load_checkpoint(tmp_path)


def test_files_without_a_checksum_still_load(run_dir, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(run_dir / "vice.safetensors", framework="pt") as file:
        card = json.loads(file.metadata()["vice"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del card["sha256"]
    save_file(tensors, tmp_path / "vice.safetensors", {"vice": json.dumps(card)})
    assert same_weights(load_checkpoint(tmp_path).embedder, load_checkpoint(run_dir).embedder)


def test_weights_that_are_not_finite(tmp_path):
    embedder = build_embedder(dim=4)
    with torch.no_grad():
        next(embedder.parameters())[0, 0, 0, 0] = float("nan")
    save_run(tmp_path, embedder)
    with pytest.raises(UserError, match=r"stem\.0\.weight holds values that are not finite"):
        load_checkpoint(tmp_path)

"""Models with their card in a folder, and what is asked of Hugging Face's hub; no network."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vice
from vice.command import info
from vice.errors import UserError
from vice.evaluation.compare import BEST_NAME, BEST_READOUT
from vice.evaluation.protocol_effects import KINDS
from vice.evaluation.scored_folders import OF_THEIR_OWN
from vice.predictor.hub import fetch
from vice.predictor.model_card import model_card, score_rows
from vice.runtime.provenance import digest

yaml = pytest.importorskip("yaml")
huggingface_hub = pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).resolve().parents[2]


def clusters(folder):
    scores = {"greedy": {"miou": 0.25, "accuracy": 0.5}, "hungarian": {"miou": 0.2}}
    result = {
        "kind": "clusters",
        "protocol": {"name": "native", "hash": "0123456789ab"},
        "dataset": {"name": "msrc21"},
        "clusters": {"21": scores},
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def saved(tmp_path, run_dir):
    predictor = vice.load(run_dir, device="cpu")
    return predictor, predictor.save_pretrained(
        tmp_path / "saved", "owner/name", data="2 photographs", license="apache-2.0",
        results=[clusters(tmp_path / "scores")],
    )  # fmt: skip


def test_a_folder_comes_back_as_it_was(saved):
    predictor, folder = saved
    again = vice.Predictor.from_pretrained(str(folder), device="cpu")
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert torch.equal(again.embed(photo), predictor.embed(photo))
    assert torch.equal(again.segment(photo), predictor.segment(photo))
    assert again.checkpoint.meta == predictor.checkpoint.meta


def test_the_card(saved):
    text = (saved[1] / "README.md").read_text()
    _, header, page = text.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "apache-2.0"
    assert "2 photographs" in page and "from_pretrained('owner/name')" in page
    rows = [line for line in page.splitlines() if "0123456789ab" in line]
    assert rows[0] == "| msrc21 | clusters 21 greedy | 25.00 | 50.00 | native 0123456789ab |"
    assert rows[1].split(" | ")[3] == "-"


def test_what_is_not_known_is_said_and_no_secret_is_told(run_dir):
    checkpoint = vice.load(run_dir, device="cpu").checkpoint
    checkpoint.meta = {"images": "https://me:word@host/x\n# forged"}
    text = model_card(checkpoint, name="a")
    assert "not stated" in text and "None were given" in text and 'license: "other"' in text
    assert "word" not in text.split("## Training")[1] and "\n# forged" not in text
    assert list(score_rows({})) == []
    with pytest.raises(UserError, match="does not exist; give a results.json"):
        model_card(checkpoint, name="a", results=["nowhere"])


def test_results_of_all_read_outs_lie_in_folders(run_dir, tmp_path):
    checkpoint = vice.load(run_dir, device="cpu").checkpoint
    (tmp_path / "scores").mkdir()
    one = model_card(checkpoint, name="a", results=[clusters(tmp_path / "scores" / "cluster")])
    assert model_card(checkpoint, name="a", results=[tmp_path / "scores"]) == one
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no results.json, nor do the folders in it: give"):
        model_card(checkpoint, name="a", results=[tmp_path / "empty"])


def test_nothing_of_somebody_else_is_written_over(run_dir, tmp_path):
    predictor = vice.load(run_dir, device="cpu")
    for name, text in (("README.md", "my notes"), ("vice.json", "{}"), ("vice.safetensors", "x")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(UserError, match=rf"{name} holds something else, which would be writt"):
            predictor.save_pretrained(folder)
        assert os.listdir(folder) == [name] and (folder / name).read_text() == text
    for _ in range(2):
        predictor.save_pretrained(tmp_path / "mine")
        predictor.save_pretrained(tmp_path / "mine", data="of others")


def test_a_training_keeps_its_weights(run_dir, tmp_path):
    mine, other = tmp_path / "mine", vice.load("random:resnet18-fpn-8", device="cpu")
    shutil.copytree(run_dir, mine)
    (mine / "train_config.yaml").write_text("VICE: {}\n")
    before = (mine / "vice.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"mine holds a training \(train_config.yaml\) of another"):
        other.save_pretrained(mine)
    assert (mine / "vice.safetensors").read_bytes() == before
    # Its own card may lie beside them.
    vice.load(mine, device="cpu").save_pretrained(mine, data="photographs")
    assert "photographs" in (mine / "README.md").read_text()
    (mine / "vice.safetensors").unlink()
    with pytest.raises(UserError, match="holds a training"):
        other.save_pretrained(mine)


def test_a_result_alone_and_what_is_no_result(run_dir, tmp_path):
    checkpoint = vice.load(run_dir, device="cpu").checkpoint
    folder = clusters(tmp_path / "one")
    given = ([folder], folder, str(folder), str(folder / "results.json"))
    cards = [model_card(checkpoint, name="a", results=each) for each in given]
    assert len(set(cards)) == 1
    (tmp_path / "selection.json").write_text('{"selected": []}')
    with pytest.raises(UserError, match="selection.json holds no score under a protocol: give a"):
        model_card(checkpoint, name="a", results=[tmp_path / "selection.json"])


def result_of(folder, kind):
    """A result of any kind, as its evaluation writes it."""
    score = {"miou": 0.25, "accuracy": 0.5, "iou_per_class": {"a": 0.25}}
    scores = {
        "linear": score, "finetune": score, "retrieval": {"none": score, "hungarian": score},
        "clusters": {"21": {"greedy": score, "hungarian": score}},
        "position": {when: {"r2": {"x": 0.5}, "linear": score} for when in ("before", "after")},
        "boundaries": {"boundary_f": 0.5}, "masks": score,
    }  # fmt: skip
    result = {"kind": kind, "dataset": {"name": "msrc21"}, kind: scores[kind]}
    if kind not in ("boundaries", "masks"):
        result["protocol"] = {"name": "native", "hash": "0123456789ab"}
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(result))
    return folder


ROWS = {"linear": 1, "finetune": 1, "retrieval": 2, "clusters": 2}


def test_every_kind_of_result_is_in_a_card_or_said_to_be_left_out(run_dir, tmp_path, caplog):
    checkpoint = vice.load(run_dir, device="cpu").checkpoint
    assert set(ROWS) == set(KINDS)
    for kind in OF_THEIR_OWN:
        own = result_of(tmp_path / "alone" / kind, kind)
        with pytest.raises(UserError, match=rf"{kind}/results.json holds no score under a protoc"):
            model_card(checkpoint, name="a", results=own)
    for kind, number in ROWS.items():
        result_of(tmp_path / "out" / kind, kind)
        text = model_card(checkpoint, name="a", results=tmp_path / "out" / kind)
        rows = [line for line in text.splitlines() if "native 0123456789ab |" in line]
        assert len(rows) == number and all(f"| msrc21 | {kind}" in row for row in rows)
    assert "left out" not in caplog.text
    places = [*(tmp_path / "out" / kind for kind in ("position", "masks"))]
    places += [tmp_path / "out" / "boundaries" / k for k in ("3", "5")]
    for place in places:
        result_of(place, place.name if place.name in OF_THEIR_OWN else "boundaries")
    text = model_card(checkpoint, name="a", results=[tmp_path / "out"])
    assert text.count("native 0123456789ab |") == sum(ROWS.values())
    assert caplog.text.count("left out of the card") == 1
    assert "4 of 8 results (boundaries 2, masks 1, position 1)" in caplog.text


@pytest.mark.parametrize("features", [None, "embedding", "backbone"])
def test_results_of_another_model_are_refused(run_dir, tmp_path, features):
    checkpoint = vice.load(run_dir, device="cpu").checkpoint
    folder = result_of(tmp_path / "out", "linear")
    result = json.loads((folder / "results.json").read_text())
    if features:
        result["protocol"]["fields"] = {"features": features}
    own = model_card(checkpoint, name="a", results=folder)
    for weights, refused in ((digest(checkpoint.embedder), False), ("0" * 64, True)):
        result |= {"spec": "somebody's", "model": {"digest": weights}}
        (folder / "results.json").write_text(json.dumps(result))
        # A part of the network has a digest of its own, which says nothing of the rest.
        if refused and features != "backbone":
            with pytest.raises(UserError, match=r"out/results.json is of another model \(somebody"):
                model_card(checkpoint, name="a", results=folder)
        else:
            assert model_card(checkpoint, name="a", results=folder) == own


def test_the_best_epoch_of_a_probe_has_the_name_that_tables_give_it(run_dir, tmp_path):
    folder = result_of(tmp_path / "out", "linear")
    result = json.loads((folder / "results.json").read_text())
    result[BEST_NAME] = result["linear"]
    assert [row["read-out"] for row in score_rows(result)] == ["linear", BEST_READOUT]


def test_info_prints_the_card(saved, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vice info", str(saved[1]), "--card"])
    info.main()
    assert capsys.readouterr().out.strip() == (saved[1] / "README.md").read_text().strip()


def test_what_the_hub_is_asked(saved, monkeypatch):
    """Of a hub that keeps what it is given in a folder, with the calls of the real one."""
    predictor, folder = saved
    asked = []

    class Hub(huggingface_hub.HfApi):
        def create_repo(self, repo_id, *, private, exist_ok):
            asked.append((repo_id, private))

        def upload_folder(self, *, repo_id, folder_path):
            asked.append(sorted(path.name for path in Path(folder_path).iterdir()))
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **more: str(folder))
    assert predictor.push_to_hub("owner/name") == "https://hub/owner/name"
    assert asked == [("owner/name", True), ["README.md", "vice.json", "vice.safetensors"]]
    assert vice.Predictor.from_pretrained("owner/name", device="cpu").dim == predictor.dim


def test_errors_of_the_hub_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot fetch owner/none .*; check its name") as said:
        fetch("owner/none", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in str(said.value)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **more: str(tmp_path))
    with pytest.raises(UserError, match="it is no model of ViCE"):
        fetch("owner/empty")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        fetch("owner/name")
    with pytest.raises(UserError, match="lab is no model of ViCE's own"):
        vice.load("lab", device="cpu").save_pretrained(tmp_path)


def test_torch_hub_finds_the_models(run_dir):
    model = torch.hub.load(str(ROOT), "vice", str(run_dir), device="cpu", source="local")
    assert isinstance(model, vice.Predictor)


def test_torch_hub_finds_models_of_a_hub(saved):
    predictor, folder = saved
    model = torch.hub.load(str(ROOT), "pretrained", str(folder), device="cpu", source="local")
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert torch.equal(model.embed(photo), predictor.embed(photo))

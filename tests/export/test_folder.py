"""What lies in the folder of an export after another one into it, whatever came before."""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from vice.command import export as command
from vice.errors import UserError
from vice.export.folder import FILES, earlier_files, put
from vice.models import Concepts, seeded_embedder
from vice.models.checkpoint import Checkpoint
from vice.predictor import Predictor

RECORD = {"digest": "0123", "concepts": None}
#: What the first exports said of their formats.
OLD = {
    **{to: {"format": to} for to in ("onnx", "torchscript")},
    "torchvision": {"network_there": "torchvision.models.resnet18(weights=None)"},
    "timm": {"network_there": "timm.create_model('resnet18', num_classes=0)"},
    "mmseg": {"network_there": "mmseg.registry.MODELS.build({'type': 'ResNet'})"},
}
#: Every set of files that an export may have.
SETS = [
    (to, names)
    for to, all_names in FILES.items()
    for number in range(1, len(all_names) + 1)
    for names in itertools.combinations(all_names, number)
]


def export(folder, to, names, text):
    return put(folder, to, {name: lambda new: Path(new).write_text(text) for name in names}, RECORD)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("then", "before"), SETS)
@pytest.mark.parametrize(("to", "names"), SETS)
def test_a_folder_holds_one_export_whole(then, before, to, names, old, tmp_path, caplog):
    export(tmp_path, then, before, "then")
    (tmp_path / "notes.txt").write_text("mine")
    if old:
        (tmp_path / "export.json").write_text(json.dumps({**RECORD, **OLD[then]}))
    there = contents(tmp_path)
    if to != then:
        for ask in (
            lambda: export(tmp_path, to, names, "now"),
            lambda: earlier_files(tmp_path, to),
        ):
            with pytest.raises(UserError, match=rf"holds an export to another format \({then}\)"):
                ask()
        assert contents(tmp_path) == there
        return
    assert export(tmp_path, to, names, "now") == [*names, "export.json"]
    found = contents(tmp_path)
    record = json.loads(found.pop("export.json"))
    assert (record["format"], record["files"]) == (to, list(names))
    assert found == {**dict.fromkeys(names, "now"), "notes.txt": "mine"}
    gone = [name for name in before if name not in names]
    assert caplog.text.count("removed from an earlier export") == bool(gone)
    assert all(name in caplog.text for name in gone)


@pytest.mark.parametrize("fails", range(3))
def test_an_export_that_fails_loses_nothing(fails, tmp_path, monkeypatch):
    """Whichever of the files the disk does not take, the record among them."""
    export(tmp_path, "onnx", FILES["onnx"], "then")
    there, written = contents(tmp_path), []
    write = Path.write_text

    def full(self, *arguments, **more):
        written.append(self)
        if len(written) > fails:
            raise OSError(28, "No space left on device")
        return write(self, *arguments, **more)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left"):
        export(tmp_path, "onnx", FILES["onnx"], "now")
    assert contents(tmp_path) == there and len(written) == fails + 1


@pytest.mark.parametrize("record", [None, "{}", '{"digest": 1, "format": "onnx", "files": []}'])
@pytest.mark.parametrize("name", FILES["onnx"])
def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(name, record, tmp_path):
    (tmp_path / name).write_text("mine")
    if record is not None:
        (tmp_path / "export.json").write_text(record)
    there = contents(tmp_path)
    with pytest.raises(UserError, match="holds something else"):
        export(tmp_path, "onnx", FILES["onnx"], "now")
    assert contents(tmp_path) == there


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    folder = tmp_path / "out"
    export(folder, "onnx", FILES["onnx"], "then")
    said = json.loads((folder / "export.json").read_text())
    said["files"] += ["../precious", str(tmp_path / "precious")]
    (folder / "export.json").write_text(json.dumps(said))
    export(folder, "onnx", ["embed.onnx"], "now")
    assert sorted(os.listdir(folder)) == ["embed.onnx", "export.json"]
    assert (tmp_path / "precious").read_text() == "mine"


def run(monkeypatch, model, to, out):
    monkeypatch.setattr("vice.load", lambda *_, **__: model)
    monkeypatch.setattr(sys, "argv", ["vice export", "lab", "--to", to, "--out", str(out)])
    command.main()


def test_libraries_that_name_their_files_alike_are_told_apart(tmp_path, monkeypatch, capsys):
    pytest.importorskip("timm")
    embedder = seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=4, stages=1)
    model = Predictor(Checkpoint(embedder.eval().requires_grad_(False)), "cpu", "a model")
    run(monkeypatch, model, "torchvision", tmp_path)
    there = (tmp_path / "trunk.safetensors").read_bytes()
    for to in ("timm", "mmseg", "onnx", "torchscript"):
        with pytest.raises(UserError, match=r"another format \(torchvision\)"):
            run(monkeypatch, model, to, tmp_path)
    assert (tmp_path / "trunk.safetensors").read_bytes() == there
    assert "is replaced" not in capsys.readouterr().out
    run(monkeypatch, model, "torchvision", tmp_path)
    assert "what an earlier call had exported there is replaced" in capsys.readouterr().out


@pytest.mark.slow
def test_onnx_without_concepts_leaves_none_of_those_before(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    from vice.models.lab import LabEmbedder

    for concepts in (Concepts.euclidean(torch.eye(3)), None):
        model = Predictor(Checkpoint(LabEmbedder().eval(), concepts), "cpu", "a model")
        run(monkeypatch, model, "onnx", tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["embed.onnx", "export.json"]
    assert json.loads((tmp_path / "export.json").read_text())["concepts"] is None

"""Graphs for other programs, run by those programs, against the predictor."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vice
from vice.command import export as command
from vice.errors import UserError
from vice.export import onnx_graphs
from vice.export.doors import NORMALIZED, Doors
from vice.export.trials import TRACED, TRIED
from vice.export.write import export_graph
from vice.models import Concepts, Prototypes, seeded_embedder
from vice.models.checkpoint import Checkpoint
from vice.models.strides import steps
from vice.normalize import denormalize, normalize, normalize_bytes
from vice.predictor import Predictor
from vice.runtime.provenance import digest

# Exporting the demo's network takes half a minute: one process does, for all tests.
pytestmark = pytest.mark.xdist_group("graphs")
#: Five sizes that exporting neither traces nor tries; one is a multiple of the stride.
SIZES = ((70, 90), (128, 64), (41, 53), (37, 210), (99, 98))
#: What the demo trains, smaller: batch normalization behind a resize, and fewer stages.
DEMO = {"backbone": "resnet18", "decoder": "fpn", "dim": 6, "centre": True, "stages": 2,
        "padding": "replicate"}  # fmt: skip


def model(concepts: Concepts | None = None, **config) -> Predictor:
    embedder = seeded_embedder(0, **config).eval().requires_grad_(False)
    return Predictor(Checkpoint(embedder, concepts), "cpu", "a model")


def prototypes(dim: int) -> Concepts:
    torch.manual_seed(0)
    return Prototypes(dim, 5).concepts()


def photos(rng):
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def session(path):
    runtime = pytest.importorskip("onnxruntime")
    made = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda given: made.run(None, {"images": given})[0], made.get_modelmeta()


def assert_same(predictor, embed, segment, rng, prepare=lambda photo: photo[None]):
    for photo in photos(rng):
        given = prepare(photo)
        assert np.abs(embed(given)[0] - predictor.embed(photo).numpy()).max() < 1e-4
        if segment is not None:
            assert (segment(given)[0] != predictor.segment(photo).numpy()).mean() < 1e-3


@pytest.fixture(scope="module")
def demo_onnx(tmp_path_factory):
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    predictor = model(prototypes(6), **DEMO)
    return predictor, folder, export_graph(predictor, folder, "onnx")


def test_onnx_of_the_demos_network_at_any_size(demo_onnx, rng):
    predictor, folder, made = demo_onnx
    embed, said = session(folder / "embed.onnx")
    segment, _ = session(folder / "segment.onnx")
    assert made.files == ["embed.onnx", "segment.onnx", "export.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(made.files)
    assert_same(predictor, embed, segment, rng)
    batch = np.stack([photos(rng)[0]] * 3)
    assert embed(batch).shape == (3, 6, 70, 90) and segment(batch).shape == (3, 70, 90)
    facts = json.loads(said.custom_metadata_map["vice"])
    assert facts["dim"] == 6 and facts["concepts"] == 5 and "inside" in facts["input"]
    assert facts["network"]["stages"] == 2


def test_a_graph_is_no_farther_from_double_precision_than_the_model(demo_onnx, rng):
    """What differs is rounding: of the places that resizes read from, which both round."""
    predictor, folder, _ = demo_onnx
    embed, _ = session(folder / "embed.onnx")
    double = copy.deepcopy(predictor.embedder).double()
    far = {"graph": [], "model": []}
    for photo in photos(rng):
        pixels = normalize(torch.from_numpy(photo)[None].permute(0, 3, 1, 2) / 255.0)
        dense = F.interpolate(double(pixels.double()), photo.shape[:2], mode="bilinear")
        wanted = F.normalize(dense, dim=1)[0].numpy()
        far["graph"].append(np.abs(embed(photo[None])[0] - wanted).max())
        far["model"].append(np.abs(predictor.embed(photo).numpy() - wanted).max())
    assert max(far["graph"]) <= 3 * max(far["model"]) < 1e-4


def test_sizes_of_a_graph_have_names(demo_onnx):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(demo_onnx[1] / "segment.onnx").graph
    names = [dim.dim_param for dim in graph.output[0].type.tensor_type.shape.dim]
    assert names == ["batch", "height", "width"]
    given = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert given[3] == 3 and all(isinstance(name, str) for name in given[:3])


class RoundedUp(nn.Module):
    """What backbones of patches do to images that are none of whole ones."""

    dim, stride, spherical = 3, 1, False

    def forward(self, images):
        size = [4 * steps(length, 4) for length in images.shape[-2:]]
        return F.interpolate(images, size, mode="bilinear", align_corners=False)[..., :-1, :-1]


def test_rounding_up_is_the_same_in_onnx(tmp_path, rng):
    """ONNX divides whole numbers toward zero, also those below zero."""
    pytest.importorskip("onnxscript")
    predictor = Predictor(Checkpoint(RoundedUp()), "cpu", "a model")
    export_graph(predictor, tmp_path, "onnx", takes=NORMALIZED)
    embed, _ = session(tmp_path / "embed.onnx")
    given = predictor.transform
    assert_same(predictor, embed, None, rng, lambda photo: given(photo)[None].numpy())


OTHER_PROCESS = """
import sys
sys.modules["vice"] = None
import numpy as np, torch
model = torch.jit.load(sys.argv[1])
with np.load(sys.argv[2]) as given:
    found = {f"{door} {name}": getattr(model, door)(torch.from_numpy(given[name])[None])[0].numpy()
             for name in given.files for door in ("embed", "segment")}
np.savez(sys.argv[3], **found)
"""


def test_torchscript_runs_where_there_is_no_vice(tmp_path, rng):
    predictor = model(
        Concepts(torch.randn(4, 8), torch.randn(4), "raw"),
        backbone="resnet18", decoder="deeplabv3", dim=8, output_stride=16,
    )  # fmt: skip
    made = export_graph(predictor, tmp_path, "torchscript")
    assert made.files == ["model.torchscript", "export.json"] and made.segments
    given = {str(number): photo for number, photo in enumerate(photos(rng))}
    np.savez(tmp_path / "given.npz", **given)
    paths = [str(tmp_path / name) for name in ("model.torchscript", "given.npz", "found.npz")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, *paths], check=True, cwd=tmp_path, env=environment
    )
    with np.load(tmp_path / "found.npz") as found:
        for name, photo in given.items():
            vectors, labels = predictor.embed(photo).numpy(), predictor.segment(photo).numpy()
            assert np.abs(found[f"embed {name}"] - vectors).max() < 1e-5
            assert (found[f"segment {name}"] != labels).mean() < 1e-3


class Fixed(nn.Module):
    """A network with a step that tracing takes for a fact."""

    dim, stride, spherical = 3, 1, False

    def forward(self, images):
        return images if images.shape[-1] == TRACED[2] else 2 * images


class Stubborn(nn.Module):
    dim, stride, spherical = 3, 1, False

    def forward(self, images):
        raise RuntimeError("no stand-ins\nhere")


@pytest.mark.parametrize(
    ("network", "to", "why"),
    [
        (Fixed, "onnx", "cannot be exported to ONNX"),
        (Fixed, "torchscript", "cannot be exported to TorchScript.*vectors differ"),
        (Stubborn, "onnx", "cannot be exported to ONNX.*no stand-ins here"),
        (Stubborn, "torchscript", "cannot be exported to TorchScript.*no stand-ins here"),
    ],
)
def test_a_network_that_cannot_be_exported_leaves_nothing(network, to, why, tmp_path):
    if to == "onnx":
        pytest.importorskip("onnxscript")
    predictor = Predictor(Checkpoint(network()), "cpu", "somebody else's")
    with pytest.raises(UserError, match=why) as said:
        export_graph(predictor, tmp_path, to)
    assert "\n" not in str(said.value) and list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime"):
        onnx_graphs.require()


def test_nothing_of_a_traced_graph_is_kept_by_normalization():
    device = torch.device("cpu")
    for function in (denormalize, normalize_bytes):
        from vice import normalize

        normalize._statistics.forget(), normalize._of_rows.forget()

        class Traced(nn.Module):
            def forward(self, images, function=function):
                return function(images)

        shape = (1, 3, 4, 4) if function is denormalize else (1, 4, 4, 3)
        given = torch.zeros(shape, dtype=torch.uint8)
        torch.export.export(Traced(), (given,))
        assert function(given).numpy().shape == (1, 3, 4, 4)
        assert type(normalize._statistics(device)[0]) is torch.Tensor


#: Lab vectors of named concepts: two of the first, one of the second, one that was dropped.
NAMED = {"sky": [[95.0, 0, 0], [60.0, -5, -40]], "grass": [[50.0, -30, 40]], "rest": [[30.0, 0, 0]]}


def named_file(folder, predictor):
    entries = [{"name": name, "color": f"#0{k}fe80", "vectors": vectors}
               for k, (name, vectors) in enumerate(NAMED.items())]  # fmt: skip
    content = {
        "format": "vice-concepts-1", "metric": "euclidean",
        "model": {"name": "lab", "weights": digest(predictor.embedder), "dim": 3},
        "concepts": entries[:2], "dropped": entries[2:],
    }  # fmt: skip
    path = folder / "concepts.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("to", [pytest.param("onnx", marks=pytest.mark.slow), "torchscript"])
def test_named_concepts_are_numbered_as_their_names(to, tmp_path, capsys, monkeypatch, rng):
    if to == "onnx":
        pytest.importorskip("onnxscript")
    predictor, out = vice.load("lab", device="cpu"), tmp_path / "out"
    words = ["vice export", "lab", "--to", to, "--out", str(out)]
    concepts = named_file(tmp_path, predictor)
    monkeypatch.setattr(sys, "argv", [*words, "--concepts", str(concepts)])
    command.main()
    assert "segment gives numbers of 2 names, in export.json" in capsys.readouterr().out
    if to == "onnx":
        segment, said = session(out / "segment.onnx")
        facts = json.loads(said.custom_metadata_map["vice"])
    else:
        graph = torch.jit.load(out / "model.torchscript")
        segment = lambda given: graph.segment(torch.from_numpy(given)).numpy()  # noqa: E731
        facts = json.loads((out / "export.json").read_text())
    assert (facts["names"], facts["concepts"]) == (["sky", "grass"], 2)
    assert (facts["colors"][1], facts["dropped"]) == ([1, 254, 128], 255)
    points = np.array([vector for vectors in NAMED.values() for vector in vectors])
    for photo in photos(rng):
        lab = predictor.embed(photo).numpy()
        nearest = ((lab[None] - points[:, :, None, None]) ** 2).sum(1).argmin(0)
        assert np.mean(segment(photo[None])[0] == np.array([0, 0, 1, 255])[nearest]) > 0.999


@pytest.mark.parametrize("wrong", ["a concept", "a group"])
def test_a_graph_with_another_concept_is_refused(wrong, tmp_path, monkeypatch):
    predictor = model(Concepts(torch.eye(4)), backbone="resnet18", decoder="fpn", dim=4)

    def other(door, images):
        found = door.scores(images).argmin(1)
        return door.grouped(found) if wrong == "a concept" else torch.full_like(found, 7)

    monkeypatch.setattr(Doors, "segment", other)
    with pytest.raises(UserError, match="pixels have another concept"):
        export_graph(predictor, tmp_path, "torchscript", groups=[0, 1, 1, 255])
    with pytest.raises(ValueError, match="for 4 vectors"):
        export_graph(predictor, tmp_path, "torchscript", groups=[0, 1])


def test_the_command(tmp_path, capsys, monkeypatch, run_dir, rng):
    words = ["vice export", str(run_dir), "--to", "torchscript", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, "--normalized"])
    command.main()
    said = capsys.readouterr().out
    assert "model.torchscript, export.json in " in said and "which is outside" in said
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["concepts"] == 6 and facts["tried"] == [list(size) for size in TRIED]
    assert facts["difference"] < 1e-4 and facts["model"] == "vice.safetensors"
    predictor = vice.load(run_dir, device="cpu")
    graph = torch.jit.load(tmp_path / "out" / "model.torchscript")
    photo = photos(rng)[0]
    labels = graph.segment(predictor.transform(photo)[None])[0]
    assert torch.equal(labels, predictor.segment(photo))

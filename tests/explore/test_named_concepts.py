"""Named concepts: their file, masks of several vectors a concept, and what was dropped."""

from __future__ import annotations

import csv
import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vice
from tests.helpers.content import photo
from vice.errors import UserError
from vice.explore.compressed_vectors import Compression, Loss
from vice.explore.export_masks import export_masks
from vice.explore.mask_files import read_mask
from vice.explore.named_concepts import read_named
from vice.explore.segment_folder import segment_folder
from vice.models.concepts import Concepts
from vice.runtime.provenance import digest

#: Lightness of the vectors: two of "mask", one of "width", one that was dropped.
LEVELS = {"mask": [0.0, 100.0], "width": [40.0], "gone": [70.0]}
#: Names such as the columns of the table have.
KEPT = ["mask", "width"]
COLORS = [(18, 52, 86), (171, 205, 0)]


@pytest.fixture(scope="module")
def predictor():
    return vice.load("lab", device="cpu")


@pytest.fixture
def content(predictor):
    def entry(name, color):
        vectors = [[level, 0.0, 0.0] for level in LEVELS[name]]
        return {"name": name, "color": color, "named": True, "vectors": vectors}

    return {
        "format": "vice-concepts-1",
        "model": {"name": "lab", "weights": digest(predictor.embedder), "dim": 3},
        "clusters": {"digest": "0", "count": 4, "seed": 0},
        "metric": "euclidean",
        "concepts": [entry("mask", "#123456"), entry("width", "#ABCD00")],
        "dropped": [entry("gone", "#ff0000")],
    }


def written(content, folder):
    path = folder / "concepts.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def segmented(content, predictor, tmp_path, rng):
    image = tmp_path / "a.png"
    Image.fromarray(photo(rng, (40, 61))).save(image)
    concepts = read_named(written(content, tmp_path), predictor)
    found = segment_folder(predictor, [image], tmp_path / "out", concepts)
    return found, tmp_path / "out"


def truth(predictor, image):
    """0 and 1 for the concepts, -1 for what was dropped."""
    light = predictor.embed(image).numpy()
    points = [(k, level) for k, name in enumerate(LEVELS) for level in LEVELS[name]]
    distances = [(light[0] - level) ** 2 for _, level in points]
    return np.array([0, 0, 1, -1])[np.argmin(distances, 0)]


def test_masks_of_named_concepts(segmented, predictor, tmp_path):
    found, out = segmented
    wanted = truth(predictor, tmp_path / "a.png")
    assert {-1, 0, 1} <= set(np.unique(wanted))
    labels = read_mask(out / "masks" / "a.png")
    assert (np.where(labels == 255, -1, labels) == wanted).mean() > 0.999
    with Image.open(out / "masks" / "a.png") as mask:
        colors = np.asarray(mask.convert("RGB"))
    assert (colors[labels == 0] == COLORS[0]).all() and (colors[labels == 1] == COLORS[1]).all()
    assert (colors[labels == 255] == 0).all()
    with (out / "summary.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header[:4] == ["image", "mask", "height", "width"]
    assert header[4:] == ["mask (concept)", "width (concept)", "dropped"]
    shares = [(labels == value).mean() for value in (0, 1, 255)]
    assert np.array(row[4:], float) == pytest.approx(shares, abs=1e-5)
    assert [*found.shares, found.dropped] == pytest.approx(shares)
    again = segment_folder(predictor, [tmp_path / "a.png"], out,
                           read_named(tmp_path / "concepts.json", predictor))  # fmt: skip
    assert again.reused == 1 and again.dropped == found.dropped


@pytest.mark.parametrize("changed", ["colors", "names", "dropped", "merged"])
def test_a_folder_holds_masks_of_one_set(changed, content, segmented, predictor, tmp_path):
    first, last = content["concepts"]
    if changed == "colors":
        last["color"] = "#000001"
    elif changed == "names":
        last["name"] = "other"
    elif changed == "dropped":
        content["dropped"] = []
    else:
        # The same vectors in the same order, of other concepts.
        last["vectors"].insert(0, first["vectors"].pop())
    with pytest.raises(UserError, match=r"holds masks by other (colors|names|concepts): delete it"):
        segment_folder(predictor, [tmp_path / "a.png"], segmented[1],
                       read_named(written(content, tmp_path), predictor))  # fmt: skip


def test_what_was_dropped_is_background_in_every_format(segmented, tmp_path):
    _, out = segmented
    labels = read_mask(out / "masks" / "a.png")
    for form in ("png", "cvat", "labelstudio", "fiftyone", "yolo"):
        export_masks(out, tmp_path / form, form)
    assert (read_mask(tmp_path / "png" / "a.png") == labels).all()
    assert (tmp_path / "png" / "classes.txt").read_text().splitlines() == KEPT
    with zipfile.ZipFile(tmp_path / "cvat" / "cvat.zip") as file:
        with file.open("SegmentationClass/a.png") as picture:
            pixels = np.asarray(Image.open(picture))
        table = file.read("labelmap.txt").decode().splitlines()
    assert table[1:] == ["background:0,0,0::", "mask:18,52,86::", "width:171,205,0::"]
    for value, color in ((0, COLORS[0]), (1, COLORS[1]), (255, (0, 0, 0))):
        assert (pixels[labels == value] == color).all()
    theirs = read_mask(tmp_path / "fiftyone" / "labels" / "a.png")
    assert (theirs == np.where(labels == 255, 0, labels + 1)).all()
    (task,) = json.loads((tmp_path / "labelstudio" / "tasks.json").read_text())
    drawn = [each["value"]["brushlabels"] for each in task["predictions"][0]["result"]]
    assert drawn == [["mask"], ["width"]]
    config = ElementTree.parse(tmp_path / "labelstudio" / "config.xml")
    assert [e.get("background") for e in config.iter("Label")] == ["#123456", "#abcd00"]
    lines = (tmp_path / "yolo" / "labels" / "a.txt").read_text().splitlines()
    assert {line.split()[0] for line in lines} == {"0", "1"}


def test_what_was_dropped_is_no_annotation_of_coco(segmented, tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    export_masks(segmented[1], tmp_path / "coco", "coco")
    coco, labels = COCO(tmp_path / "coco" / "annotations.json"), None
    labels = read_mask(segmented[1] / "masks" / "a.png")
    seen = np.full(labels.shape, 255)
    for each in coco.loadAnns(coco.getAnnIds()):
        seen[coco.annToMask(each).astype(bool)] = each["category_id"] - 1
    assert (seen == labels).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a:b"}, r"CVAT's format cannot hold the name 'a:b'"),
        ({"name": "background"}, "CVAT's format cannot hold the name 'background'"),
        ({"color": "#123456"}, "tells 'width' and 'mask' apart by their colors"),
        ({"color": "#000000"}, "tells 'width' and 'background' apart by their colors"),
    ],
)
def test_what_cvat_cannot_hold(change, message, content, predictor, tmp_path, rng):
    content["concepts"][1] |= change
    Image.fromarray(photo(rng, (40, 61))).save(tmp_path / "a.png")
    concepts = read_named(written(content, tmp_path), predictor)
    segment_folder(predictor, [tmp_path / "a.png"], tmp_path / "out", concepts)
    with pytest.raises(UserError, match=message):
        export_masks(tmp_path / "out", tmp_path / "x", "cvat")


FAULTS = {
    "format": ({"format": "other"}, None, "holds no concepts of ViCE"),
    "model": ({"model": {"name": "b", "weights": "1"}}, None, r"those of another model \(b\)"),
    "no model": ({"model": None}, None, "does not say of which model"),
    "metric": ({"metric": "cosine"}, None, "metric is 'cosine', not 'euclidean'"),
    "list": ({"dropped": {}}, None, "has no list 'dropped'"),
    "none": ({"concepts": []}, None, "holds no concept that was kept"),
    "object": ({"concepts": [3]}, None, r"concepts\[0\] is no object"),
    "twice": ({}, {"name": "mask"}, "two concepts are called 'mask'"),
    "twice with spaces": ({}, {"name": " mask "}, "two concepts are called 'mask'"),
    "empty": ({}, {"name": " "}, r"concepts\[1\] has no name that can be shown"),
    "line": ({}, {"name": "a\nb"}, "has no name that can be shown on a line"),
    "color": ({}, {"color": "red"}, "has the color 'red'"),
    "vectors": ({}, {"vectors": []}, "has no vectors"),
    "wide": ({}, {"vectors": [[1.0, 2.0]]}, "has a vector that is not 3 numbers"),
    "text": ({}, {"vectors": [[1.0, 2.0, "3"]]}, "has a vector that is not 3 numbers"),
    "bool": ({}, {"vectors": [[1.0, 2.0, True]]}, "has a vector that is not 3 numbers"),
    "nan": ({}, {"vectors": [[1.0, 2.0, float("nan")]]}, "has a vector that is not finite"),
    "large": ({}, {"vectors": [[1.0, 2.0, 10**400]]}, "has a vector that is not finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_whole_is_refused_in_a_line(fault, content, predictor, tmp_path):
    changed, entry, message = FAULTS[fault]
    content |= changed
    if entry:
        content["concepts"][1] |= entry
    with pytest.raises(UserError, match=message) as error:
        read_named(written(content, tmp_path), predictor)
    assert "concepts.json" in str(error.value) and "\n" not in str(error.value)


def test_a_direction_of_zeros_is_refused(content, tmp_path):
    model = vice.load("random:resnet18-fpn-3", device="cpu")
    content |= {"model": {"weights": digest(model.embedder)}, "metric": "cosine"}
    content["concepts"][0]["vectors"][0] = [0, 0, 0]
    with pytest.raises(UserError, match="zeros, which has no direction"):
        read_named(written(content, tmp_path), model)


def test_an_accent_is_the_same_however_it_is_written(content, predictor, tmp_path):
    for entry, name in zip(content["concepts"], ("caf\xe9", "cafe\u0301"), strict=True):
        entry["name"] = name
    with pytest.raises(UserError, match="two concepts are called 'caf\xe9'"):
        read_named(written(content, tmp_path), predictor)


@pytest.mark.parametrize("name", ["پیاده\u200cرو", "👨\u200d👩\u200d👧", "\U0001faff", "a\xa0b"])
def test_names_in_every_script_are_taken(name, content, predictor, tmp_path):
    content["concepts"][1]["name"] = name
    assert list(read_named(written(content, tmp_path), predictor).names) == ["mask", name]


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.1, 1e-300, 1e38])
def test_of_directions_no_length_counts(factor, content, tmp_path):
    model = vice.load("random:resnet18-fpn-3", device="cpu")
    content |= {"model": {"weights": digest(model.embedder)}, "metric": "cosine"}
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    entries = [*content["concepts"], *content["dropped"]]
    places = [(entry, number) for entry in entries for number in range(len(entry["vectors"]))]
    for (entry, number), vector in zip(places, directions, strict=True):
        entry["vectors"][number] = (factor * vector).tolist()
    found = read_named(written(content, tmp_path), model).vectors.vectors.numpy()
    assert found == pytest.approx(directions, abs=1e-6)


@pytest.mark.parametrize("dim", [3, 48])
def test_compression_is_as_close_as_it_says(dim, rng):
    """Few directions, 8 bits: against NumPy's own products, on other vectors than the fitted."""
    scale = np.exp(-np.arange(dim) / 6)
    made = torch.from_numpy(rng.normal(size=(4000, dim)) * scale).float()
    turned, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    vectors = F.normalize(made @ torch.from_numpy(turned).float(), dim=1)
    compression = Compression.fit(vectors[:2000])
    width = compression.directions.shape[1]
    assert width == min(dim, 32)
    products = compression.directions.T @ compression.directions
    assert torch.allclose(products, torch.eye(width), atol=1e-5)
    concepts = Concepts(vectors[:6])
    loss = Loss.measure(compression, vectors[2000:], concepts, spherical=True)
    kept = compression.decode(compression.encode(vectors[2000:])).numpy()
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    exact = (vectors[2000:-1].numpy() * vectors[2001:].numpy()).sum(1)
    off = np.abs(exact - (kept[:-1] * kept[1:]).sum(1))
    assert [loss.mean, loss.most] == pytest.approx([off.mean(), off.max()], abs=1e-5)
    assert loss.mean < 0.01 and loss.same > 0.97 and loss.pairs == 1999

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vice.errors import UserError
from vice.experiments.demo import pictures
from vice.experiments.demo.mosaics import CLASSES, make_mosaics
from vice.experiments.demo.page import write_report
from vice.experiments.demo.pictures import Shown, make_pictures, read_shown
from vice.models import Prototypes, build_embedder
from vice.models.checkpoint import save_run
from vice.superpixels import Superpixels
from vice.views import ViewSampler
from vice.visualize import palette


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("run")
    save_run(folder, build_embedder("resnet18", "fpn", 16), Prototypes(16, 8), {})
    record = {"iteration": 1, "loss": 2.0, "loss_over_lnk": 0.9, "perplexity": 3.0, "lr": 0.1}
    (folder / "health.jsonl").write_text(json.dumps(record) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mosaics(tmp_path_factory.mktemp("data") / "set", train=0, val=3, size=96)


def images(data: Path) -> list[Path]:
    return sorted((data / "images" / "val").iterdir())


def size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def test_labelled_images(run_dir: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    labels = data / "labels" / "val"
    cat = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    sections = make_pictures(
        run_dir, tmp_path, images(data), labels=labels, linear_maps=labels, cluster_maps=labels,
        classes=CLASSES, photographs={"noise": cat}, clusters=(2, 3),
    )  # fmt: skip
    titles = [section.title for section in sections]
    assert titles == ["Training", "Views", "Class maps", "Embeddings", "Photographs"]
    text = write_report(tmp_path, {}, sections).read_text()
    for path in (tmp_path / "pictures").iterdir():
        attribute = "srcset" if "narrow" in path.name else "src"
        assert f'{attribute}="pictures/{path.name}"' in text
    sheet = np.asarray(Image.open(tmp_path / "pictures" / "classes.png"))
    truth = np.asarray(Image.open(sorted(labels.iterdir())[0]))
    for column in (1, 2, 3):
        left = 6 + column * 102
        np.testing.assert_array_equal(
            sheet[26 : 26 + 96, left : left + 96], palette(len(CLASSES))[truth]
        )


def test_unlabelled_images(run_dir: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    sections = make_pictures(run_dir, tmp_path, images(data), clusters=(2, 5, 10**6), most=2)
    assert [s.title for s in sections] == ["Training", "Views", "Embeddings", "Clusters"]
    assert size(tmp_path / "pictures" / "clusters.png") == (3 * 96 + 4 * 6, 20 + 6 + 2 * 102)
    sheet = np.asarray(Image.open(tmp_path / "pictures" / "clusters.png"))
    two = sheet[26 : 26 + 96, 6 + 102 : 6 + 102 + 96].reshape(-1, 3)
    assert {tuple(c) for c in np.unique(two, axis=0)} <= {tuple(c) for c in palette(2)}


def test_same_seed_same_pictures(run_dir: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    for name in ("a", "b"):
        make_pictures(run_dir, tmp_path / name, images(data)[:1], clusters=(3,), seed=5)
    for path in (tmp_path / "a" / "pictures").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "pictures" / path.name).read_bytes()


def test_embeddings_are_the_predictors(run_dir: Path) -> None:
    import vice

    predictor = vice.load(run_dir, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3)).astype(np.uint8)
    (found,) = pictures.embed([Shown("x", pixels)], predictor)
    np.testing.assert_array_equal(found, predictor.embed(pixels)[:, ::2, ::2])


def test_large_small_and_broken_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (1000, 500)).save(tmp_path / "a.png")
    Image.new("L", (1, 1)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    paths = sorted(tmp_path.iterdir())
    with caplog.at_level(logging.WARNING):
        shown = read_shown(paths, 3)
    assert [item.pixels.shape for item in shown] == [(192, 384, 3), (1, 1, 3)]
    assert "c.png" in caplog.text
    with pytest.raises(UserError, match="none of the 1 images"):
        read_shown(paths[2:], 3)


def test_shown_images_are_spread_over_the_list(tmp_path: Path) -> None:
    for index in range(9):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{index}.png")
    names = [item.name for item in read_shown(sorted(tmp_path.iterdir()), 3)]
    assert names == ["0.png", "4.png", "8.png"]


def test_images_without_a_map_are_left_out(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = read_shown(images(data), 3)
    with caplog.at_level(logging.WARNING):
        assert pictures.draw_class_maps(shown, tmp_path, {"truth": tmp_path}, CLASSES) == ()
    assert caplog.text.count("is left out") == 3


def test_views_of_regions_on_disk(tmp_path: Path) -> None:
    """Maps of the size of the files, shown beside images that were shrunk."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = Image.fromarray(rng.integers(0, 256, (500, 400, 3), dtype=np.uint8))
        picture.save(tmp_path / f"{name}.jpg")
    blocks = np.kron(np.arange(20, dtype=np.uint8).reshape(5, 4), np.ones((100, 100), np.uint8))
    (tmp_path / "maps").mkdir()
    Image.fromarray(blocks).save(tmp_path / "maps" / "a.png")
    seen = []

    def sampler(image, regions, rng):
        seen.append((image.shape, regions))
        return ViewSampler(num_views=2, size=64)(image, regions, rng)

    shown = [
        *read_shown(sorted(tmp_path.glob("*.jpg")), 2),
        Shown("none", np.zeros((40, 50, 3), np.uint8)),
    ]
    maker = Superpixels("files", folder=tmp_path / "maps")
    found = pictures.draw_view_pictures(shown, tmp_path, sampler, maker)  # type: ignore[arg-type]
    assert len(found) == 1
    ((shape, regions),) = seen
    assert shape == (384, 307, 3) and regions.shape == (384, 307)
    rows, columns = (np.arange(384) * 5 // 384, np.arange(307) * 4 // 307)
    # Exact but for the row or column in which a block ends.
    assert (regions == rows[:, None] * 4 + columns).mean() > 0.98

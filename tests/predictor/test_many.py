"""Images of any kind, and many of them: in order, together, read ahead by a bounded number."""

from __future__ import annotations

import logging
import pickle
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from vice.errors import UserError
from vice.models import build_embedder
from vice.models.checkpoint import Checkpoint
from vice.predictor import Predictor


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    return Predictor(Checkpoint(build_embedder("resnet18", dim=4, stages=1).eval()))


def pictures(rng, sizes):
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def test_one_image_of_many_kinds(predictor, rng):
    (image,) = pictures(rng, [(20, 24)])
    expected = predictor.embed(image)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    share = image / 255
    for same in (
        torch.from_numpy(image), planes, torch.from_numpy(planes), share,
        share.astype(np.float32), torch.from_numpy(planes).float() / 255, Image.fromarray(image),
    ):  # fmt: skip
        assert torch.equal(predictor.embed(same), expected)
    gray = image[:, :, 0]
    expected = predictor.embed(np.repeat(gray[:, :, None], 3, 2))
    for same in (gray, gray[:, :, None], gray[None], torch.from_numpy(gray), gray / 255):
        assert torch.equal(predictor.embed(same), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros((3, 20, 3), dtype=torch.uint8), "may have its colors first or last"),
        (np.zeros((1, 20, 1), np.uint8), "may have its colors first or last"),
        (np.zeros((3, 3, 3), np.float32), "may have its colors first or last"),
        (np.full((4, 5, 3), 255.0), "from 255 to 255: floating point must lie in"),
        (np.full((4, 5, 3), np.nan), "floating point must lie in"),
        (np.full((4, 5, 3), -0.1), "floating point must lie in"),
        (np.zeros((4, 5, 3), np.uint16), "uint16 .*scale it first"),
        (np.zeros((4, 5, 3), bool), "bool .*scale it first"),
        (np.zeros((4, 5, 3), complex), "complex.*scale it first"),
    ],
)
def test_what_could_be_two_things_is_refused(predictor, image, message):
    with pytest.raises(UserError, match=message) as caught:
        predictor.embed(image)
    assert "\n" not in str(caught.value)


def test_many_in_order(predictor, rng, tmp_path):
    sizes = [(20, 24), (20, 24), (20, 24), (7, 5), (1, 30), (20, 24)]
    images = pictures(rng, sizes)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    calls = []
    handle = predictor.embedder.register_forward_hook(lambda _, given, __: calls.append(given[0]))
    concepts = torch.randn(3, 4)
    given = {"list": images, "generator": iter(images), "folder": tmp_path}
    for kind, many in given.items():
        calls.clear()
        found = list(predictor.embed_all(many, batch_size=2))
        assert [len(batch) for batch in calls] == [2, 1, 1, 1, 1]
        names = [tmp_path / f"{number}.png" for number in range(6)]
        assert [str(name) for name, _ in found] == [
            str(name) for name in (names if kind == "folder" else range(6))
        ]
        for image, (_, vectors) in zip(images, found, strict=True):
            assert (vectors - predictor.embed(image)).abs().max() < 1e-5
    handle.remove()
    for image, (_, labels) in zip(images, predictor.segment_all(images, concepts), strict=True):
        assert (labels == predictor.segment(image, concepts)).float().mean() > 0.99
    batch = np.stack(images[:3])
    assert len(list(predictor.embed_all(batch, "native"))) == 3
    assert len(list(predictor.embed_all(torch.from_numpy(batch).permute(0, 3, 1, 2)))) == 3


def test_no_more_is_read_than_is_needed_soon(predictor, rng):
    (image,) = pictures(rng, [(8, 8)])
    taken = []

    def endless():
        for number in range(10**6):
            taken.append(number)
            yield image

    for number, _ in predictor.embed_all(endless(), batch_size=2):
        assert len(taken) <= number + 3 * 2 + 1
        if number == 20:
            break


def test_a_broken_file_among_others(predictor, rng, tmp_path, caplog):
    for number, image in enumerate(pictures(rng, [(8, 9)] * 5)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    got = []
    with pytest.raises(UserError, match=r"2\.png: cannot be read as an image"):
        for name, _ in predictor.embed_all(tmp_path, batch_size=1):
            got.append(name)
    assert len(got) <= 2
    with caplog.at_level(logging.WARNING):
        found = list(predictor.embed_all(tmp_path, skip=True))
    assert len(found) == 4 and list(predictor.unread) == [str(tmp_path / "2.png")]
    assert "1 images cannot be read and were left out" in caplog.text


def test_nothing_and_one_where_many_are_expected(predictor, rng, tmp_path):
    assert list(predictor.embed_all([])) == []
    with pytest.raises(UserError):
        list(predictor.embed_all(tmp_path))
    (image,) = pictures(rng, [(8, 8)])
    for one in (image, torch.from_numpy(image), Image.fromarray(image)):
        with pytest.raises(UserError, match=r"give \[image\]"):
            list(predictor.embed_all(one))
    with pytest.raises(ValueError, match="stride must be"):
        list(predictor.embed_all([image], "half"))


@torch.no_grad()
def test_a_transform_gives_what_embed_feeds(predictor, rng, tmp_path):
    transform = pickle.loads(pickle.dumps(predictor.transform))
    (image,) = pictures(rng, [(20, 24)])
    Image.fromarray(image).save(tmp_path / "a.png")
    fed = []
    handle = predictor.embedder.register_forward_hook(lambda _, given, __: fed.append(given[0]))
    predictor.embed(image)
    handle.remove()
    for same in (image, tmp_path / "a.png", image / 255):
        assert torch.equal(transform(same), fed[0][0])
    assert transform(image).dtype == torch.float32


def test_the_limit_of_pixels(rng, tmp_path):
    (image,) = pictures(rng, [(20, 24)])
    Image.fromarray(image).save(tmp_path / "a.png")
    assert vice.load("lab", device="cpu", max_pixels=480).embed(tmp_path / "a.png").numel()
    with pytest.raises(UserError, match=r"a\.png: its 480 pixels exceed the limit of 479.*max_pix"):
        vice.load("lab", device="cpu", max_pixels=479).embed(tmp_path / "a.png")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_more_than_three_batches_live(predictor, rng, batch_size):
    """Of a generator of any length, whatever the consumer takes its time for."""
    live, most = 0, 0

    def gone():
        nonlocal live
        live -= 1

    def drawn():
        nonlocal live, most
        for _ in range(40):
            image = rng.integers(0, 256, (20, 24, 3), np.uint8)
            weakref.finalize(image, gone)
            live += 1
            most = max(most, live)
            yield image
            del image

    assert sum(1 for _ in predictor.embed_all(drawn(), "native", batch_size=batch_size)) == 40
    # Two batches that are read ahead, one that is collected, and what is handed over.
    assert 2 * batch_size <= most <= 3 * batch_size + 1
    assert live <= 1

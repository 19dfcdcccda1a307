"""Dataset and collator: the same views whoever loads them, in the order promised."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tests.plugins.vissl.conftest import overrides, write_images
from vice.errors import UserError
from vice.methods import Stopped
from vice.plugins.vissl.collator import vice_collator
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.passes import TrainingContext
from vice.runtime.preemption import Notice
from vice.superpixels import source


@pytest.fixture(scope="module")
def config(images, tmp_path_factory):
    return configure(overrides(images, tmp_path_factory.mktemp("out")))[1]


def build(config):
    from vissl.data import build_dataset

    return build_dataset(config, "TRAIN")


def batches(dataset, workers, batch_size=2):
    loader = DataLoader(
        dataset,
        batch_size,
        num_workers=workers,
        collate_fn=vice_collator,
        multiprocessing_context="fork" if workers else None,
    )
    return list(loader)


def same(one, two):
    return torch.equal(one["data_idx"][0], two["data_idx"][0]) and all(
        torch.equal(one["method"][name], two["method"][name]) for name in ("images", "regions")
    )


def test_same_seed_same_views_in_any_number_of_workers(config):
    dataset = build(config)
    alone = batches(dataset, 0)
    for workers in (1, 3):
        together = batches(dataset, workers)
        assert len(together) == len(alone) == 3
        assert all(same(one, two) for one, two in zip(alone, together, strict=True))


def test_batch_mates_do_not_change_an_image(config):
    dataset = build(config)
    small, large = batches(dataset, 0, 2), batches(dataset, 0, 3)
    views = config.VICE.VIEWS.num_views
    first = small[1]["method"]["images"].unflatten(0, (views, 2))[:, 0]
    again = large[0]["method"]["images"].unflatten(0, (views, 3))[:, 2]
    assert torch.equal(first, again)


def test_epochs_and_seeds_change_the_views(config):
    dataset = build(config)
    first = batches(dataset, 0)[0]
    dataset.data_objs[0].set_epoch(1)
    second = batches(dataset, 0)[0]
    assert not torch.equal(first["method"]["images"], second["method"]["images"])
    dataset.data_objs[0].set_epoch(0)
    assert same(first, batches(dataset, 0)[0])
    dataset.data_objs[0].seed += 1
    assert not same(first, batches(dataset, 0)[0])


def test_layout_is_view_major_and_regions_are_mutual(config):
    dataset = build(config)
    batch = batches(dataset, 0, 3)[0]
    images, regions = batch["method"]["images"], batch["method"]["regions"]
    assert batch["label"][0].tolist() == [0, 1, 2]
    assert images.shape == (6, 48, 48, 3)
    assert images.dtype == torch.uint8
    assert regions.shape == (6, 48, 48)
    assert regions.dtype == torch.int32
    for image in range(3):
        ids = [set(regions[view * 3 + image].unique().tolist()) - {-1} for view in range(2)]
        assert ids[0]
        assert ids[0] == ids[1]
    # Position view * N + image holds that image: compare with each image on its own.
    for image in range(3):
        alone = vice_collator([dataset[image]])
        assert torch.equal(alone["method"]["images"], images[[image, image + 3]])


def test_small_folders_are_repeated(images, tmp_path):
    arguments = overrides(images, tmp_path, "config.VICE.DATASET.min_images_per_epoch=20")
    dataset = build(configure(arguments)[1])
    assert len(dataset) == 24
    assert dataset.num_samples() == 24
    first, again = (vice_collator([dataset[index]])["method"]["images"] for index in (0, 6))
    assert not torch.equal(first, again)


def test_broken_images_are_replaced_and_reported(tmp_path):
    images = write_images(tmp_path / "images", count=3)
    (images / "1.png").write_bytes(b"broken")
    dataset = build(configure(overrides(images, tmp_path / "out"))[1])
    item = dataset[1]
    assert item["data_valid"] == [-1]
    batch = vice_collator([dataset[0], item])
    assert len(batch["skipped"]) >= 1
    assert all("1.png" in reason for reason in batch["skipped"])
    assert bool(torch.isfinite(batch["method"]["images"]).all())
    drawn = {tuple(dataset.data_objs[0][1][0].drawn.changed[0, :, 0, 0].tolist()) for _ in range(3)}
    assert len(drawn) == 1, "the replacement depends on the seed alone"


def test_replacements_are_drawn_uniformly(tmp_path):
    images = write_images(tmp_path / "images", count=4)
    (images / "0.png").write_bytes(b"broken")
    source = build(configure(overrides(images, tmp_path / "out"))[1]).data_objs[0]
    seen = []
    for epoch in range(150):
        source.set_epoch(epoch)
        seen.append(source[0] and source.images.last[0])
    counts = [seen.count(value) for value in set(seen)]
    assert len(counts) == 3
    assert min(counts) > 25


@pytest.mark.parametrize("later", [False, True])
def test_images_without_mutual_regions_are_replaced(images, tmp_path, monkeypatch, later):
    from vice.views import NoMutualRegions, ViewSampler

    where = f"config.VICE.CUT_ON={'device' if later else 'workers'}"
    source = build(configure(overrides(images, tmp_path, where))[1]).data_objs[0]
    real, calls = ViewSampler.place, []

    def picky(self, image, regions, rng, edges=None):
        calls.append(image)
        if len(calls) < 3:
            raise NoMutualRegions("nothing in common")
        return real(self, image, regions, rng, edges)

    monkeypatch.setattr(ViewSampler, "place", picky)
    sample, valid = source[0]
    assert len(sample.skipped) == 2 and not valid
    assert "0.png: nothing in common" in sample.skipped[0]
    assert np.array_equal(source.images.last[1], calls[-1])


def test_nothing_usable_is_an_error(tmp_path):
    images = write_images(tmp_path / "images", count=3)
    source = build(configure(overrides(images, tmp_path / "out"))[1]).data_objs[0]
    # After the look at some of them that comes before the training.
    for path in images.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="images in a row cannot be used"):
        source[0]


def ragged(tmp_path, *more):
    """A dataset of images of three sizes, one of them broken."""
    images = write_images(tmp_path / "images", count=4)
    for number, size in enumerate(((70, 101), (33, 64))):
        with Image.open(images / f"{number}.png") as image:
            image.resize(size).save(images / f"{number}.png")
    (images / "3.png").write_bytes(b"broken")
    return build(configure(overrides(images, tmp_path / "out", *more))[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_views_cut_on_the_device_are_those_of_the_workers(tmp_path, workers):
    on_device = "config.VICE.PHOTOMETRIC_ON=device"
    datasets = [
        ragged(tmp_path / name, on_device, f"config.VICE.CUT_ON={name}")
        for name in ("workers", "device")
    ]
    (there,), (here,) = batches(datasets[0], 0, 4), batches(datasets[1], workers, 4)
    found = here["method"]
    assert found["images"][0].shape == (101, 70, 3) and found["images"][1].shape == (64, 33, 3)
    assert found["boxes"].shape == (4, 2, 4) and found["flipped"].shape == (4, 2)
    assert all(image.dtype == torch.uint8 and image.is_contiguous() for image in found["images"])
    names = [[Path(reason).name for reason in batch["skipped"]] for batch in (there, here)]
    assert names[0] == names[1] != []
    assert torch.equal(found["regions"], there["method"]["regions"])
    changed = []
    for dataset, batch in zip(datasets, (there, here), strict=True):
        views = dataset.data_objs[0].method.views
        views.photometric = SimpleNamespace(
            change_bytes=lambda *given: changed.append(given) or given[0]
        )
        views.finish(batch["method"], torch.device("cpu"))
    (first, params, noise), (second, same_params, same_noise) = changed
    assert first.shape == second.shape == (8, 48, 48, 3)
    assert np.abs(first.astype(int) - second.astype(int)).max() <= 1
    assert np.array_equal(noise, same_noise)
    for name, value in vars(params).items():
        np.testing.assert_array_equal(value, getattr(same_params, name))


def test_a_pass_reads_every_image_once_and_counts_what_it_cannot(tmp_path, caplog):
    dataset = ragged(tmp_path)
    context = TrainingContext.__new__(TrainingContext)
    context.task = SimpleNamespace(
        config={"DATA": {"NUM_DATALOADER_WORKERS": 1}, "MULTI_PROCESSING_METHOD": "fork"},
        train_phase_idx=0,
    )
    context.notice, context.device, context.seed = Notice(), torch.device("cpu"), 0
    context._images, context.num_images = dataset.data_objs[0].images, 4
    before = torch.get_rng_state()
    parts = list(context.run(lambda source, index: source.image(index).shape, 3, [2, 3, 0, 1]))
    assert parts == [[(2, (80, 90, 3)), (0, (101, 70, 3))], [(1, (64, 33, 3))]]
    assert torch.equal(before, torch.get_rng_state())
    assert "1 of 4 images were left out of a pass" in caplog.text and "3.png" in caplog.text
    context.notice.signal_number = 15
    with pytest.raises(Stopped):
        list(context.run(lambda source, index: index, 2))


def test_images_are_read_once_and_every_epoch_has_views_of_its_own(images, tmp_path, monkeypatch):
    read, reads = source.read_image, []
    monkeypatch.setattr(
        source, "read_image", lambda path, **how: reads.append(path) or read(path, **how)
    )
    drawn = {}
    for mib in (8, 0):
        keep = f"config.VICE.DATASET.keep_mib={mib}"
        (data,) = build(configure(overrides(images, tmp_path, keep))[1]).data_objs
        for epoch in range(2):
            data.set_epoch(epoch)
            drawn[mib, epoch] = [data[index][0].drawn for index in range(6)]
        assert len(reads) == (6 if mib else 18)
    # Kept or not, the same is drawn, to the bit.
    for epoch in range(2):
        for one, other in zip(drawn[8, epoch], drawn[0, epoch], strict=True):
            assert np.array_equal(one.changed, other.changed)
            assert np.array_equal(one.views.regions, other.views.regions)
    for first, second in zip(drawn[8, 0], drawn[8, 1], strict=True):
        boxes = [{tuple(box) for box in each.views.boxes.tolist()} for each in (first, second)]
        views = [{view.tobytes() for view in each.changed} for each in (first, second)]
        assert not boxes[0] & boxes[1] and not views[0] & views[1]

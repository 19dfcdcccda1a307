"""STEGO's crops, its table of neighbors, its projection, and what its signs see."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as tv

from tests.methods.test_contract import InProcess, Parts
from vice.errors import OptionError, UserError
from vice.losses.stego import sample_points
from vice.methods import build_method
from vice.methods import neighbor_table as tables
from vice.methods.correspondence_numbers import Distribution, measure, numbers_from
from vice.methods.crop_pairs import CropOptions, CropPairs, ReadCrops, cut_crop
from vice.methods.neighbor_table import ensure_table, make_table, read_table, write_table
from vice.methods.signs import HealthMonitor
from vice.models import build_embedder, seeded_embedder
from vice.models.plain import plain
from vice.models.projection import Projection
from vice.normalize import normalize
from vice.options import defaults
from vice.views.keyed import order_of


class Pixels(nn.Module):
    """A backbone whose map is the image, in 12 channels."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = nn.functional.avg_pool2d(images, 4)
        return fine, torch.cat([fine, fine.square(), fine.sin(), fine.abs()], 1)


class Photos(SimpleNamespace):
    """Six images of different sizes; the fourth cannot be read, the last is a copy of the first."""

    seed, epoch = 3, 0

    def __len__(self) -> int:
        return 6

    def image(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(index % 5)
        height, width = rng.integers(41, 90, 2)
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        return np.asarray(small.resize((int(width), int(height)), Image.Resampling.BICUBIC))


class Passes(InProcess):
    def run(self, read, batch_size, order=None):
        self.passes = getattr(self, "passes", 0) + 1
        for part in super().run(read, batch_size, order):
            yield [(index, value) for index, value in part if index != 3]


def context(folder: Path) -> Passes:
    return Passes(
        embedder=SimpleNamespace(backbone=Pixels()), device=torch.device("cpu"), seed=3,
        num_images=6, folder=folder, source=Photos(folder=folder), images="six",
    )  # fmt: skip


OPTIONS = CropOptions(crop_side=24, neighbors=3)


def brute_force(options: CropOptions) -> np.ndarray:
    """Cosines of the mean features of all crops, in float64; nan of what cannot be read."""
    rows = []
    for index in range(6):
        crops = torch.from_numpy(ReadCrops(options)(Photos(), index)).double().permute(0, 3, 1, 2)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        means = Pixels()((crops / 255 - mean) / std)[1].mean((2, 3)).numpy()
        rows += [np.full(12, np.nan) if index == 3 else row / np.linalg.norm(row) for row in means]
    return np.array(rows) @ np.array(rows).T


@pytest.mark.parametrize("crops", ["five", "whole"])
def test_the_table_is_that_of_brute_force(crops, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_QUERIES", 4)
    monkeypatch.setattr(tables, "KEPT", 9)
    options = CropOptions(crop_side=24, crops=crops)
    table = make_table(context(tmp_path), ReadCrops(options), batch=2)
    cosines, count = brute_force(options), {"five": 5, "whole": 1}[crops]
    known = [i for i in range(6 * count) if i // count != 3]
    assert table.shape == (6 * count, min(9, len(known)))
    assert (table[3 * count : 4 * count] == -1).all()
    for crop in known:
        row = table[crop].tolist()
        assert row[0] == crop and len({*row}) == len(row) and {*row} <= {*known}
        rest = sorted(cosines[crop, [i for i in known if i != crop]])[::-1]
        np.testing.assert_allclose(cosines[crop, row[1:]], rest[: len(row) - 1], atol=1e-6)
    # The copy of an image is the nearest to it, whichever of both comes first.
    assert table[0, 1] == 5 * count and table[5 * count, 1] == 0


def test_dropping_channels_gives_other_neighbors_the_same_ones_each_time(tmp_path):
    given = {"read": ReadCrops(OPTIONS), "batch": 2}
    plain, one, two = (
        make_table(context(tmp_path), **given, dropped=share) for share in (0.0, 0.5, 0.5)
    )
    assert np.array_equal(one, two) and not np.array_equal(plain, one)
    assert np.array_equal(one[:, 0], plain[:, 0])


def test_a_table_is_made_once_for_all_that_it_follows_from(tmp_path):
    given = context(tmp_path / "run")
    read, shared = ReadCrops(OPTIONS), str(tmp_path / "tables")

    def passes(key: str, folder: str, others: str | None = shared) -> int:
        given.folder, given.passes = tmp_path / folder, 0
        ensure_table(given, key, read, batch=4, shared=others)
        return given.passes

    assert [passes("a", "run"), passes("a", "run"), passes("a", "second")] == [1, 0, 0]
    assert [passes("b", "run"), passes("a", "run"), passes("a", "third", None)] == [1, 0, 1]
    assert np.array_equal(read_table(tmp_path / "third"), read_table(tmp_path / "second"))
    # What is broken is made again; what is of another key is not taken for it.
    (tmp_path / "run" / tables.FILE).write_bytes(b"PK nothing")
    (tmp_path / "tables" / "neighbors-a.npz").write_bytes(b"")
    assert passes("a", "run") == 1
    with pytest.raises(UserError, match="other neighbors"):
        read_table(tmp_path / "run", "b")
    write_table(tmp_path / "run" / tables.FILE, np.zeros((2, 2)), "a")
    with pytest.raises(UserError, match="other neighbors"):
        read_table(tmp_path / "run", "a")


def test_the_key_follows_from_each_weight():
    backbone = build_embedder("resnet18", stages=1, dim=4).backbone
    first = tables.digest_weights(backbone)
    assert first == tables.digest_weights(backbone)
    with torch.no_grad():
        next(backbone.buffers())[0] += 1e-3
    assert first != tables.digest_weights(backbone)
    keys = {tables.table_key({"a": a, "b": b}) for a in (0, 1) for b in (0, None)}
    assert len(keys) == 4


def test_crops_are_torchvisions_five(tmp_path):
    image = Photos().image(1)
    found = ReadCrops(OPTIONS)(Photos(), 1)
    pictures = tv.five_crop(Image.fromarray(image), (image.shape[0] // 2, image.shape[1] // 2))
    assert found.shape == (5, 24, 24, 3)
    for picture, crop in zip(pictures, found, strict=True):
        nearest = tv.resize(picture, 24, tv.InterpolationMode.NEAREST)
        assert np.array_equal(np.asarray(tv.center_crop(nearest, 24)), crop)
    whole = cut_crop(image, 0, CropOptions(crop_side=24, crops="whole"))
    nearest = tv.resize(Image.fromarray(image), 24, tv.InterpolationMode.NEAREST)
    assert np.array_equal(np.asarray(tv.center_crop(nearest, 24)), whole)


def test_five_epochs_show_each_crop_once_with_one_of_its_neighbors(tmp_path):
    table = make_table(context(tmp_path), ReadCrops(OPTIONS), batch=4)
    write_table(tmp_path / tables.FILE, table, "a")
    pairs, source = CropPairs(OPTIONS, None), Photos(folder=tmp_path)
    crops = {index: ReadCrops(OPTIONS)(source, index) for index in range(6) if index != 3}
    shown: dict[int, list[int]] = {}
    for epoch in range(5):
        source.epoch = epoch
        for index, own in crops.items():
            drawn = pairs.draw(source, index, np.random.default_rng([epoch, index]))
            again = pairs.draw(source, index, np.random.default_rng([epoch, index]))
            assert np.array_equal(drawn.pixels, again.pixels)
            assert np.array_equal(drawn.points, again.points)
            (number,) = [n for n in range(5) if np.array_equal(own[n], drawn.pixels[0])]
            shown.setdefault(index, []).append(number)
            near = table[5 * index + number, 1:4]
            assert any(np.array_equal(crops[i // 5][i % 5], drawn.pixels[1]) for i in near)
            assert drawn.points.shape == (2, 121, 2) and abs(drawn.points).max() <= 1
    assert all(sorted(numbers) == [0, 1, 2, 3, 4] for numbers in shown.values())
    assert len({tuple(numbers) for numbers in shown.values()}) > 1


def test_the_projection_is_both_branches_and_the_features_are_the_backbones():
    made = seeded_embedder(
        0, backbone="resnet18", decoder="projection", dim=6, stages=2, outputs={"features": 0},
        frozen=True,
    )  # fmt: skip
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    assert made.stride == 8 and isinstance(made.decoder, Projection)
    with torch.no_grad(), plain():
        maps, features = made.eval()(images, outputs=True), made.backbone(images)[-1]
        assert maps.shape == (2, 6 + 128, 8, 6) and torch.equal(maps[:, 6:], features)
        (w1, b1), (w2, b2), (w3, b3) = (
            (layer.weight[:, :, 0, 0], layer.bias[:, None, None])
            for layer in (made.decoder.linear, made.decoder.hidden[0], made.decoder.hidden[2])
        )
        hidden = torch.einsum("oc,nchw->nohw", w2, features) + b2
        expected = torch.einsum("oc,nchw->nohw", w1, features) + b1
        expected = expected + torch.einsum("oc,nchw->nohw", w3, hidden.relu()) + b3
        torch.testing.assert_close(maps[:, :6], expected, rtol=1e-4, atol=1e-5)
        # In training whole channels are dropped, for the features and each branch by itself.
        dropped = made.train()(images, outputs=True)[:, 6:]
        zeros = (dropped == 0).all((2, 3)) & ~(features == 0).all((2, 3))
        assert 0.02 < float(zeros.float().mean()) < 0.25
        kept = dropped[~zeros]
        torch.testing.assert_close(kept, features[~zeros] / 0.9)
    trained = [name for name, value in made.named_parameters() if value.requires_grad]
    assert len(trained) == 6 and all(name.startswith("decoder.") for name in trained)


def stego(**changes):
    made = build_method({"METHOD": {"name": "vice"}} | _settings(**changes))
    return made


def _settings(**changes):
    from vice.methods.stego import StegoOptions

    return {
        "METHOD": {"name": "stego", **defaults(StegoOptions), **changes},
        "STANDARDIZE": {"mode": "none"},
    }


def test_a_probe_that_is_trained_along_needs_labels_and_says_so(tmp_path):
    for wrong in ({"linear_probe": "during"}, {"labels_folder": str(tmp_path)}):
        with pytest.raises(OptionError, match="give both linear_probe=during and labels_folder"):
            stego(**wrong)
    assert stego().provenance() == {}
    source = Photos(folder=tmp_path)
    source.path = lambda index: f"photos/{index}.jpg"
    height, width = source.image(1).shape[:2]
    labels = (np.arange(height * width) % 251).astype(np.uint8).reshape(height, width)
    Image.fromarray(labels).save(tmp_path / "1.png")
    write_table(tmp_path / tables.FILE, np.arange(30, dtype=np.int32)[:, None], "a")
    method = stego(linear_probe="during", labels_folder=str(tmp_path), crop_side=24, classes=7)
    assert "linear probe" in method.provenance()["supervision"]
    drawn = method.sample(source, 1, np.random.default_rng(0))
    # Labels lie where the pixels do.
    numbers = [np.array_equal(drawn.pixels[0], cut_crop(source.image(1), n, method.options))
               for n in range(5)]  # fmt: skip
    assert np.array_equal(drawn.labels, cut_crop(labels, numbers.index(True), method.options))
    batch = method.finish(method.collate([drawn, drawn]), torch.device("cpu"))
    outputs = method.head(5)(torch.randn(4, 5 + 3, 6, 6))
    assert outputs[3].shape == (2, 7, 6, 6)
    loss = method.loss()
    loss(*outputs, *batch.targets).backward()
    assert 1 < loss.health["linear"] < 4


def test_a_single_image_a_step_is_refused():
    with pytest.raises(OptionError, match="one image a step"):
        stego().check_batch(1)
    stego().check_batch(2)


def test_signs_tell_what_is_sick_and_nothing_of_a_training_that_is_not():
    parts = Parts("stego")
    parts.value()
    healthy = dict(parts.loss.health)

    def told(**changes: float) -> list[str]:
        monitor = HealthMonitor(parts.method.signs(), parts.method.measures, patience=2)
        record = {**healthy, "clusters_in_use": 5.0, "above_neighbor": 0.3, **changes}
        return [message for _ in range(2) for message in monitor.update(record)]

    assert told() == []
    (alike,) = told(code_random=0.99)
    assert "cosine 0.99" in alike and "shift_random" in alike
    (apart,) = told(above_neighbor=0.0)
    assert "nothing pulls codes together" in apart and "shift_neighbor" in apart
    (unused,) = told(clusters_in_use=1.0)
    assert "1.0 clusters have been in use" in unused


def test_another_other_images_content_is_not_taken_for_the_samples(tmp_path):
    write_table(
        tmp_path / tables.FILE, np.array([[c, (c + 5) % 30] for c in range(30)], np.int32), "a"
    )
    source, read = Photos(folder=tmp_path), []
    real = source.image
    source.image = lambda index: read.append(index) or real(index)
    CropPairs(OPTIONS, None).draw(source, 2, np.random.default_rng(0))
    assert len(read) == 2 and read[-1] == 2 and read[0] == 3


def distribution(values: np.ndarray) -> Distribution:
    return Distribution(np.histogram(values, 4000, (-2, 2))[0].astype(float))


def test_numbers_part_two_peaks_and_balance_what_pulls_and_pushes():
    rng = np.random.default_rng(0)
    own = np.concatenate([rng.normal(0.1, 0.03, 3000), rng.normal(0.7, 0.03, 1000)])
    near = np.concatenate([rng.normal(0.0, 0.03, 6000), rng.normal(0.5, 0.03, 500)])
    others = rng.normal(-0.1, 0.1, 5000)
    found = numbers_from(*map(distribution, (own, near, others)))

    def variance_inside(values: np.ndarray, b: float) -> float:
        return sum(part.size * part.var() for part in (values[values <= b], values[values > b]))

    for values, kind in ((own, "self"), (near, "neighbor")):
        grid = np.linspace(values.min() + 0.01, values.max() - 0.01, 300)
        least = min(variance_inside(values, b) for b in grid)
        assert variance_inside(values, found[kind].shift) <= least * (1 + 1e-3)
    assert 0.2 < found["self"].shift < 0.6 and 0.1 < found["neighbor"].shift < 0.4
    assert found["random"].shift == pytest.approx(np.quantile(others, 0.99), abs=2e-3)
    assert found["neighbor"].weight == 1

    def pull(values, kind):
        return found[kind].weight * (values - found[kind].shift).clip(0).mean()

    assert pull(own, "self") == pytest.approx(pull(near, "neighbor"), rel=0.01)
    push = found["random"].weight * (found["random"].shift - others).clip(0).mean()
    assert push == pytest.approx(pull(own, "self") + pull(near, "neighbor"), rel=0.01)


@pytest.mark.parametrize("pointwise", [True, False])
def test_distributions_are_those_of_all_pairs_of_points(pointwise, tmp_path):
    options = CropOptions(crop_side=24, neighbors=3, points=3)
    given = context(tmp_path)
    given.embedder.backbone.channels = (3, 12)
    ensure_table(given, "a", ReadCrops(options), batch=4, shared=None)
    pairs = CropPairs(options, None)
    found = measure(given, pairs, batch=2, pointwise=pointwise)
    assert {each.counts.sum() for each in found.values()} == {5 * 9 * 9}
    rows = []
    for index in (i for i in order_of(3, 0, 6) if i != 3):
        drawn = pairs.draw(given.source, int(index), np.random.default_rng([3, int(index)]), 0)
        maps = Pixels()(normalize(torch.from_numpy(drawn.pixels).permute(0, 3, 1, 2)))[1]
        rows.append([
            nn.functional.normalize(sample_points(each[None], torch.from_numpy(p)[None])[0], dim=0)
            for each, p in zip(maps, drawn.points, strict=True)
        ])  # fmt: skip
    for kind, other in (("self", 0), ("neighbor", 1)):
        values = torch.stack([row[0].T @ row[other] for row in rows])
        if pointwise:
            values = values - values.mean(2, keepdim=True) + values.mean()
        # Not bin by bin: of a point with itself the cosine is 1, the edge of one.
        shown = found[kind]
        assert float((shown.shares * shown.values).sum()) == pytest.approx(
            float(values.mean()), abs=1e-3
        )
        for value in (-0.2, 0.1, 0.3, 0.5, 0.7, 0.9):
            below = float(shown.shares[shown.values < value].sum())
            assert below == pytest.approx(float((values < value).double().mean()), abs=6e-3)


def test_measured_numbers_are_kept_and_told(tmp_path):
    parts = Parts("stego")
    method = build_method(_settings(numbers="measured", crop_side=32, points=3))
    loss = method.loss()
    method.bind(loss, parts.embedder, lambda network, images: network(images))
    given, before = parts.context, dict(loss.numbers)
    method.before_workers(given)
    measured = dict(loss.numbers)
    assert measured != before and "neighbor w 1 b " in method.provenance()["correspondences"]
    loss.numbers, given.embedder = before, None
    with pytest.raises(AttributeError):
        method.before_workers(given)
    given.embedder = parts.embedder
    given.run = lambda *_: pytest.fail("measured twice")
    method.before_workers(given)
    assert loss.numbers == measured
    assert stego().provenance() == {}

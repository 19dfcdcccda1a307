"""Views of objects: both show enough, image and mask go together, draws are counted and keyed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.methods import Unusable, build_method
from vice.methods.maskcontrast import MaskContrastOptions
from vice.methods.object_views import ObjectViews
from vice.methods.signs import HealthMonitor
from vice.options import defaults
from vice.superpixels import Foregrounds
from vice.views.photometric import Photometric

PLAIN = Photometric.identity()


class Scenes:
    """Images whose objects are where they are bright; some show none."""

    seed = epoch = 0

    def __init__(self, empty: tuple[int, ...] = (), sizes: tuple[int, ...] = (40, 40, 40)) -> None:
        self.empty, self.sizes = empty, sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def path(self, index: int) -> str:
        return str(index)

    def image_and_objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        objects = np.zeros((90, 120), np.uint8)
        if index not in self.empty:
            objects[5 : 5 + self.sizes[index], 60:115] = 1
        return np.repeat(200 * objects[..., None] + 10 * index, 3, axis=2).astype(np.uint8), objects


def views(**options: object) -> ObjectViews:
    return ObjectViews(MaskContrastOptions(**{"view_side": 32, **options}), PLAIN, 1, "workers")


def drawn(source: Scenes, index: int, key: int, **options: object):
    return views(**options).draw(source, index, np.random.default_rng([1, key]))


def test_both_views_show_enough_and_masks_lie_on_their_images():
    for key in range(40):
        found = drawn(Scenes(), 0, key)
        cover = found.objects.mean(axis=(1, 2))
        assert ((cover > 0.01) & (cover < 0.99)).all()
        bright = found.pixels[..., 0] > 100
        # Antialiasing: only edges may differ.
        assert (bright != (found.objects > 0)).mean() < 0.05
        again = drawn(Scenes(), 0, key)
        assert (again.pixels == found.pixels).all() and again.tries == found.tries
    assert len({drawn(Scenes(), 0, key).pixels.tobytes() for key in range(10)}) == 10


def test_failed_draws_are_counted_and_another_image_takes_the_place():
    small = Scenes(sizes=(6, 40, 40))
    tries = np.array([drawn(small, 0, key, least_cover=0.03).tries for key in range(60)])
    once, others = tries[:, 0].mean(), tries[:, 1].mean()
    assert 0.2 < once < 1 and 0 < others < once
    gone = [drawn(Scenes(empty=(0,)), 0, key) for key in range(20)]
    assert all(each.tries == (True, True) for each in gone)
    # 10 x index is the background: an image with an object was drawn, one of the two.
    assert {int(each.pixels.min()) for each in gone} == {10, 20}
    with pytest.raises(Unusable, match=r"50 other images.*1\.0% of objects"):
        drawn(Scenes(empty=(0, 1, 2)), 0, 0)


def test_a_batch_is_queries_and_then_keys_with_their_objects():
    batch = [drawn(Scenes(), index, index) for index in range(3)]
    queries, keys, objects = views().finish(views().collate(batch), torch.device("cpu"))
    assert queries.shape == keys.shape == (3, 3, 32, 32) and objects.tries.tolist() == [
        sum(each.tries[0] for each in batch), 0,
    ]  # fmt: skip
    for index, each in enumerate(batch):
        assert (objects.masks[index].numpy() == each.objects[0]).all()
        bright = queries[index, 0] > queries[index, 0].mean()
        assert (bright.numpy() != (each.objects[0] > 0)).mean() < 0.1
    # What a GPU is left to do gives the same.
    later = ObjectViews(MaskContrastOptions(view_side=32), PLAIN, 1, "device")
    finished = later.finish(later.collate(batch), torch.device("cpu"))
    torch.testing.assert_close(finished[1], keys)


def test_alarms_tell_of_no_learning_flat_saliency_and_replaced_images():
    settings = {
        "METHOD": {"name": "maskcontrast", **defaults(MaskContrastOptions)},
        "FOREGROUND": {**defaults(Foregrounds), "source": "builtin"},
        "PHOTOMETRIC": {},
        "PHOTOMETRIC_ON": "workers",
    }
    method = build_method(settings)
    assert method.provenance() == {"foreground": "builtin saliency"}
    well = {"contrastive_over_ln": 0.7, "salient_share": 0.3, "replaced": 0.0, "redrawn": 0.1}
    for change, words in (
        ({"contrastive_over_ln": 1.0}, r"stayed at ln(B + K)"),
        ({"salient_share": 0.0}, "0.0% of the pixels have been held"),
        ({"salient_share": 1.0}, "100.0% of the pixels have been held"),
        ({"replaced": 0.5}, "taken the place of 50%"),
    ):
        monitor = HealthMonitor(method.signs(), method.measures, patience=3)
        assert not monitor.update(well)
        alarms = [alarm for _ in range(4) for alarm in monitor.update({**well, **change})]
        assert len(alarms) == 1 and words in alarms[0]

"""IIC's heads, masks and signs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.methods.test_contract import Parts, settings_of
from vice.errors import UserError
from vice.images import ImageError
from vice.methods import build_method
from vice.methods.signs import HealthMonitor

KEY = np.random.default_rng(0)


def made(**options: Any) -> Any:
    settings = settings_of("iic")
    return build_method({**settings, "METHOD": {**settings["METHOD"], **options}})


@pytest.mark.parametrize("b_first", [False, True])
def test_heads_take_turns_and_b_is_exported(b_first):
    method = made(head_b_first=b_first)
    head = method.head(8)
    for epoch in range(4):
        context = SimpleNamespace(epoch=epoch, head=head)
        method.before_epoch(context)
        expected = (epoch + b_first) % 2
        assert head.active == method.active == expected
        scores, idle = head(torch.randn(2, 8, 3, 3))
        assert scores.shape[1] == 2 * (6, 4)[expected] and not idle.any()
        # A run that goes on finds the same turn.
        resumed = made(head_b_first=b_first)
        other = SimpleNamespace(epoch=epoch, head=resumed.head(8))
        resumed.load_state_dict(method.state_dict())
        resumed.resume_epoch(other)
        assert other.head.active == expected
        assert torch.equal(method.concepts(head).vectors, head.prototypes.weight)


@pytest.mark.parametrize("idle_head", ["skip", "decay"])
def test_the_idle_head_stays_where_it_is_unless_its_moments_go_on(idle_head):
    parts = Parts("iic")
    parts.method = made(idle_head=idle_head)
    parts.loss = parts.method.loss()
    optimizer = torch.optim.Adam(parts.parameters, 1e-2)
    before = parts.head.over[0].weight.detach().clone()
    parts.steps(2, optimizer)
    moved = parts.head.over[0].weight.detach().clone()
    assert not torch.equal(before, moved)
    parts.context.epoch = 1
    parts.method.before_epoch(parts.context)
    parts.batch.targets = (*parts.batch.targets[:2], 1, 1)
    trained = parts.head.prototypes.weight.detach().clone()
    parts.steps(1, optimizer)
    assert torch.equal(parts.head.over[0].weight, moved) == (idle_head == "skip")
    assert not torch.equal(parts.head.prototypes.weight, trained)


def test_a_batch_without_a_pixel_that_counts_takes_no_step():
    parts = Parts("iic")
    optimizer = torch.optim.Adam(parts.parameters, 1e-2)
    parts.steps(1, optimizer)
    counted, *others = parts.batch.targets
    parts.batch.targets = (torch.zeros_like(counted), *others)
    before = [each.detach().clone() for each in parts.parameters]
    assert parts.steps(1, optimizer) == [0.0]
    assert all(map(torch.equal, before, parts.parameters))
    assert parts.loss.health["skipped_batches"] == 1


def labelled(folder: Any, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    labels[:24, :] = 3
    labels[-6:, :] = 255
    Image.fromarray(labels).save(folder / "noise 1.png")
    return labels


@pytest.mark.parametrize(("wanted", "share"), [(None, 42 / 48), ((3,), 0.5), ((9,), 0.0)])
def test_labels_say_which_pixels_count_and_the_card_says_so(wanted, share, tmp_path):
    labelled(tmp_path)
    options = {"mask": "labels", "labels_folder": str(tmp_path), "counted_labels": wanted}
    method = made(**options, image_scale=1.0)
    source = Parts("iic").context.source
    pair = method.sample(source, 1, KEY)
    assert pair.counted.mean() == pytest.approx(share)
    assert "labelled" in method.provenance()["supervision"] and made().provenance() == {}
    with pytest.raises(ImageError, match="noise 2"):
        method.sample(source, 2, KEY)


def test_label_maps_of_another_shape_are_refused_by_name(tmp_path):
    labelled(tmp_path, (48, 60))
    method = made(mask="labels", labels_folder=str(tmp_path))
    with pytest.raises(ImageError, match="60x48 pixels, but its image"):
        method.sample(Parts("iic").context.source, 1, KEY)


@pytest.mark.parametrize(
    "options", [{"mask": "labels"}, {"labels_folder": "."}, {"mask": "labels", "lowres": True}]
)
def test_masks_that_do_not_go_together_are_told(options, tmp_path):
    settings = settings_of("iic")
    if options.pop("lowres", False):
        options["labels_folder"] = str(tmp_path)
        settings["STANDARDIZE"]["mode"] = "lowres"
    with pytest.raises(UserError, match="mask"):
        build_method({**settings, "METHOD": {**settings["METHOD"], **options}})


def test_an_image_that_comes_twice_in_an_epoch_gives_two_pairs():
    method, source = made(), Parts("iic").context.source
    rngs = [np.random.default_rng([0, 0, index]) for index in (1, 5, 1)]
    one, two, again = (method.sample(source, 1, rng) for rng in rngs)
    assert np.array_equal(one.matrix, again.matrix) and not np.array_equal(one.matrix, two.matrix)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"clusters_in_use": 1.1, "largest_cluster": 0.99}, "collapse: 1.1"),
        ({"learnt": 0.001, "passed": 2.0}, "its minimum is -1.79"),
        ({"skipped_share": 0.2, "skipped_batches": 11.0}, "11 batches held no pixel"),
        ({"learnt": 0.001, "passed": 1.0}, None),
        ({}, None),
    ],
)
def test_what_is_sick_raises_an_alarm(changes, word):
    method = made()
    healthy = {
        "loss": -0.5, "minimum": -1.79, "learnt": 0.3, "clusters_in_use": 4.0,
        "largest_cluster": 0.3, "counted": 1.0, "skipped_batches": 0.0, "skipped_share": 0.0,
        "passed": 3.0,
    }  # fmt: skip
    monitor = HealthMonitor(method.signs(), method.measures, patience=3)
    alarms = [text for _ in range(4) for text in monitor.update({**healthy, **changes})]
    assert (len(alarms), word in alarms[0] if alarms else None) == (
        (1, True) if word else (0, None)
    )

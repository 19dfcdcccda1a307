from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vice.errors import UserError
from vice.models.embeddings import (
    WAITING,
    CheckedEmbedder,
    FiniteWatch,
    check_form,
    largest_entries,
    set_width,
)
from vice.scoring import mean_over

IMAGES = torch.zeros(2, 3, 8, 12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_is_found_wherever_it_is(value, dtype):
    for place in range(2 * 3 * 4 * 5):
        values = torch.ones(2, 3, 4, 5, dtype=dtype)
        values.view(-1)[place] = value
        assert largest_entries(values).isfinite().tolist() == [place >= 60, place < 60]
    largest = torch.full((2, 3), torch.finfo(dtype).max, dtype=dtype)
    assert largest_entries(-largest).isfinite().all()


def test_a_sound_embedding_passes_through():
    embedding = torch.ones(2, 5, 4, 6)
    assert check_form(embedding, IMAGES, 5) is embedding


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "NoneType"),
        ([torch.ones(2, 5, 4, 6)], "list"),
        (torch.ones(2, 5, 24), r"shape \(2, 5, 24\)"),
        (torch.ones(1, 5, 4, 6), r"shape \(1, 5, 4, 6\)"),
        (torch.ones(2, 5, 0, 6), r"shape \(2, 5, 0, 6\)"),
        (torch.ones(2, 4, 4, 6), "4 channels, but its width dim is 5"),
        (torch.ones(2, 5, 4, 6, dtype=torch.int64), "int64"),
        (torch.ones(2, 5, 4, 6, dtype=torch.complex64), "complex64"),
        (torch.ones(2, 5, 4, 6, device="meta"), "on meta"),
    ],
)
def test_anything_else_is_refused(returned, words):
    class Wrong(nn.Module):
        dim = 5

        def forward(self, images):
            return returned

    with pytest.raises(UserError, match=words):
        CheckedEmbedder(Wrong())(IMAGES)


def test_a_width_is_found_or_must_be_one():
    plain = nn.Conv2d(3, 7, 3)
    assert set_width(plain).dim == 7
    for width in (0, -1, 2.0, "7", None, True, torch.tensor(7)):
        plain.dim = width
        with pytest.raises(UserError, match="width dim"):
            set_width(plain)
    with pytest.raises(UserError, match=r"shape \(1, 150528\)"):
        set_width(nn.Flatten())


def test_the_watch_names_the_image_at_once_on_the_cpu():
    watch = FiniteWatch()
    values = torch.ones(2, 3)
    watch.names = ("a.png", "b.png")
    watch.see(values, "wrong")
    values[1, 2] = math.nan
    with pytest.raises(UserError, match=r"^b\.png: wrong$"):
        watch.see(values, "wrong")
    watch.names = ()
    with pytest.raises(UserError, match="^image 1 of the batch: wrong$"):
        watch.see(values, "wrong")


def test_elsewhere_batches_wait_and_the_right_one_is_named(monkeypatch):
    class Elsewhere(FiniteWatch):
        """As on a device that computes while this process goes on."""

        def see(self, values, told):
            self._waiting.append((largest_entries(values), self.names, told, False))
            if len(self._waiting) >= WAITING:
                self.look()

    watch = Elsewhere()
    for number in range(WAITING - 1):
        watch.names = (f"{number}.png",)
        watch.see(torch.full((1, 2), math.nan if number == 3 else 1.0), "wrong")
    watch.names = ("last.png",)
    with pytest.raises(UserError, match=r"^3\.png: wrong$"):
        watch.see(torch.ones(1, 2), "wrong")
    watch.look()


def test_one_image():
    watch = FiniteWatch()
    watch.see_one(torch.ones(3, 2), "x.jpg")
    with pytest.raises(UserError, match=r"x\.jpg: its embedding is not finite"):
        watch.see_one(torch.tensor([1.0, math.nan]), "x.jpg")
    watch.see_one(torch.ones(3, 2), "x.jpg")


@pytest.mark.parametrize("sign", [1, -1])
def test_what_cannot_be_squared_is_refused_before_it_is_a_score(sign):
    """At any scale that passes, unit vectors have length 1."""
    given = torch.randn(1, 64, 3, 3).clamp(-1, 1) * sign
    for exponent in range(-9, 39):
        scaled = given * 10.0**exponent
        watch = FiniteWatch()
        watch.names = ("x.jpg",)
        try:
            watch.see(scaled, "wrong", embedding=True)
            watch.see_one(scaled[0], "x.jpg")
        except UserError as error:
            assert exponent >= 18 and "too large to be squared" in str(error)
            continue
        lengths = nn.functional.normalize(scaled, dim=1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
    # Scores of classes may be as large as they like.
    watch.see(given * 1e30, "wrong")


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-13, 1e-10])
def test_embeddings_next_to_nothing_are_told_of_once(caplog, scale):
    watch = FiniteWatch()
    watch.names = ("a.png", "b.png")
    watch.see(torch.ones(2, 4, 3, 3), "wrong", embedding=True)
    assert not caplog.text
    for _ in range(2):
        watch.see(
            torch.stack([torch.ones(4, 3, 3), scale * torch.ones(4, 3, 3)]), "wrong", embedding=True
        )
    (record,) = caplog.records
    assert record.getMessage().startswith("b.png: its embedding is next to nothing")


def test_means_say_over_what_they_are():
    three = {"iou_per_class": {"a": 0.5, "b": None, "c": 0.0, "d": 1.0}}
    two = {"iou_per_class": [0.5, math.nan, math.nan, 0.0]}
    assert mean_over([three]) == "mean over 3 of 4 classes"
    assert mean_over([three, two, {"miou": 0.1}]) == "mean over 2 to 3 of 4 classes"
    assert mean_over([two, {"classes_in_mean": 1, "classes": 5}]) == "mean over 1 to 2 of 5 classes"
    assert mean_over([{"miou": 0.1}]) == mean_over([]) == ""

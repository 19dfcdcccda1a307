"""What a method's loss may say and return, and what is refused with its name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("vissl")

from vice.errors import UserError
from vice.methods import Batch, Measure
from vice.plugins.vissl.hooks.run import HealthHook
from vice.plugins.vissl.loss import MethodLoss


class Mean(torch.nn.Module):
    """Of what it is given; what it returns and says is made of it by `returned` and `said`."""

    def __init__(self, returned=lambda loss: loss, **said):
        super().__init__()
        self.returned = returned
        for name, value in said.items():
            setattr(self, name, value)

    def forward(self, output):
        return self.returned(output.mean())


def called(criterion):
    loss = MethodLoss(criterion)
    loss.batch = Batch([])
    value = loss(torch.ones(2, 3, requires_grad=True) * 4, torch.zeros(2))
    return loss, value


@pytest.mark.parametrize("said", [{}, {"health": {}}, {"health": {"loss": 4.0}}])
def test_the_loss_is_known_whether_it_is_said_or_not(said):
    loss, value = called(Mean(**said))
    assert loss.health == {"loss": 4.0} and value.item() == 4


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), torch.tensor(2.0), torch.tensor([2])])
def test_numbers_of_any_kind_are_plain(number):
    health = called(Mean(health={"loss": 1.0, "other": number}))[0].health
    assert health == {"loss": 1.0, "other": 2} and type(health["other"]) in (int, float)


@pytest.mark.parametrize("value", ["high", None, [1.0], torch.ones(2), np.ones(2), object()])
def test_what_is_no_number_is_named(value):
    loss = called(Mean(health={"loss": 1.0, "other": value}))[0]
    with pytest.raises(UserError, match=r"Mean\.health\['other'\] is .*, but must be a number"):
        _ = loss.health


@pytest.mark.parametrize("health", [[], 3, "loss", lambda: {}])
def test_health_is_a_mapping(health):
    loss = called(Mean(health=health))[0]
    with pytest.raises(UserError, match=r"Mean\.health is .*, but must be a mapping"):
        _ = loss.health


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda loss: None, "returned None, but must return a scalar tensor"),
        (lambda loss: loss.item(), "returned 4.0, but must"),
        (lambda loss: (loss, {}), "but must return a scalar tensor"),
        (lambda loss: loss.expand(3), r"returned .*of shape \(3,\), but must"),
        (lambda loss: loss.detach(), "depends on nothing that is trained"),
        (lambda loss: torch.zeros(()), "depends on nothing that is trained"),
        (lambda loss: loss * 1j, "returned a complex number, but must return a real one"),
    ],
)
def test_what_nothing_can_be_trained_with_is_named(returned, said):
    with pytest.raises(UserError, match=said):
        called(Mean(returned))


def test_what_goes_wrong_as_health_is_read_is_no_missing_health():
    class Typo(Mean):
        @property
        def health(self):
            return {"loss": self.no_such_sum}

    with pytest.raises(AttributeError):
        _ = called(Typo())[0].health


def test_without_gradients_none_are_missed():
    with torch.no_grad():
        assert called(Mean())[1].item() == 4


def test_what_a_method_measures_its_loss_must_say(tmp_path):
    method = SimpleNamespace(
        Options=type("Options", (), {"__dataclass_fields__": {}}),
        measures=[Measure("loss", "loss"), Measure("accuracy", "accuracy")],
        signs=lambda: [],
    )
    loss, _ = called(Mean())
    sample = {"skipped": [], "content": []}
    optimizer = SimpleNamespace(options_view=SimpleNamespace(lr=0.1))
    task = SimpleNamespace(
        method=method, loss=loss, iteration=0, train_phase_idx=0, passes=None,
        last_batch=SimpleNamespace(sample=sample), optimizer=optimizer,
    )  # fmt: skip
    hook = HealthHook(str(tmp_path), 1)
    hook.on_start(task)
    with pytest.raises(UserError, match="measures accuracy, which its loss's health does not"):
        hook.on_update(task)

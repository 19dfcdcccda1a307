"""How a run is computed is decided once, by rank 0, and read from the run on resuming."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch.distributed as dist

from tests.plugins.vissl.conftest import overrides
from vice.methods.vice_swav import ViceSwAV
from vice.models.execution import AUTO, Execution
from vice.plugins.vissl import deciding, resuming
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.deciding import decide
from vice.plugins.vissl.resuming import settings_of
from vice.runtime.rendezvous import Roster
from vice.runtime.run_folder import CONFIG_NAME, read_config

LEFT = "config.MODEL.TRUNK.EXECUTION={precision:auto,channels_last:auto}"


def way_of(config) -> Execution:
    return Execution(**config.MODEL.TRUNK.EXECUTION)


@pytest.fixture
def asked(monkeypatch):
    """What the probe was asked for; it says the last of the choices."""
    calls = []

    def probe(network, inputs, choices):
        calls.append((network, inputs, choices))
        return choices[-1], dict.fromkeys(choices, 1.0)

    monkeypatch.setattr(deciding, "fastest", probe)
    return calls


def test_rank_0_decides_for_all_and_for_good(images, tmp_path, asked):
    out = tmp_path / "run"
    out.mkdir()
    given = overrides(images, out, LEFT)
    first, second = configure(given)[1], configure(given)[1]
    assert way_of(first) == Execution(AUTO, AUTO)
    store, patience = dist.HashStore(), timedelta(seconds=5)
    for rank, config in enumerate((first, second)):
        decide(config, Roster(store, rank, 2, patience))
    assert way_of(first) == way_of(second) == Execution("bfloat16", True)
    # A batch of the run: two views of 48 pixels of each of two images.
    (network, inputs, choices), = asked  # fmt: skip
    assert [tuple(each.shape) for each in inputs] == [(4, 3, 48, 48)] and len(choices) == 4
    assert network.config["dim"] == 8
    # The run says it, and is asked when it goes on: no probe.
    assert read_config(out)["MODEL"]["TRUNK"]["EXECUTION"]["precision"] == "bfloat16"
    again = configure(given)[1]
    assert way_of(again) == Execution("bfloat16", True)
    decide(again, Roster(dist.HashStore(), 0, 1, patience))
    assert len(asked) == 1
    # What the user says counts, in an old folder as in a new one.
    said = configure([*given, "config.MODEL.TRUNK.EXECUTION={precision:null,channels_last:auto}"])
    assert way_of(said[1]) == Execution(None, True)


def test_of_two_that_begin_at_once_the_second_goes_on_as_the_first_has_decided(
    images, tmp_path, asked
):
    out = tmp_path / "run"
    out.mkdir()
    first, second = (configure(overrides(images, out, LEFT))[1] for _ in range(2))
    assert way_of(second) == Execution(AUTO, AUTO)
    decide(first, Roster(dist.HashStore(), 0, 1, timedelta(seconds=5)))
    # The lock of the first is free, and the second reads what stands there now.
    resuming.prepare_resume(second)
    assert way_of(second) == way_of(first) == Execution("bfloat16", True)


def test_a_folder_that_says_nothing_leaves_it_open(images, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for text in ("", "MODEL: 3", "MODEL: {TRUNK: {EXECUTION: {precision: auto}}}", "a: ["):
        (out / CONFIG_NAME).write_text(text)
        assert way_of(configure(overrides(images, out, LEFT))[1]) == Execution(AUTO, AUTO)


def test_mixed_precision_of_vissl_keeps_its_precision(images, tmp_path, asked):
    more = (LEFT, "config.MODEL.AMP_PARAMS.USE_AMP=true")
    config = configure(overrides(images, tmp_path / "run", *more))[1]
    config.MODEL.AMP_PARAMS.USE_AMP = True  # as on a GPU
    (tmp_path / "run").mkdir()
    decide(config, Roster(dist.HashStore(), 0, 1, timedelta(seconds=5)))
    assert way_of(config) == Execution(None, True)
    assert {way.precision for way in asked[0][2]} == {None}


def test_states_say_it_where_the_configuration_is_lost(images, tmp_path, monkeypatch):
    out = tmp_path / "run"
    out.mkdir()
    config = configure(overrides(images, out, LEFT))[1]
    config.MODEL.TRUNK.EXECUTION.update(precision="bfloat16", channels_last=True)
    monkeypatch.setattr(resuming, "_settings_in", lambda folder: settings_of(config))
    assert way_of(configure(overrides(images, out, LEFT))[1]) == Execution("bfloat16", True)


def test_without_a_batch_the_plainest_way_is_taken(images, tmp_path, monkeypatch, caplog):
    config = configure(overrides(images, tmp_path, LEFT))[1]

    def sample(*given):
        raise RuntimeError("neighbors are not known yet")

    monkeypatch.setattr(ViceSwAV, "sample", sample)
    decide(config, Roster(dist.HashStore(), 0, 1, timedelta(seconds=5)))
    assert way_of(config) == Execution()
    assert "no batch could be made (neighbors are not known yet)" in caplog.text

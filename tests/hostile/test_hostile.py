"""A sample of the hostile cases; ``tests/campaigns/hostile.py`` runs all of them."""

from __future__ import annotations

import logging

import pytest

from tests.hostile.campaign import GROUPS, choose, run, table

pytest.importorskip("vissl")
pytest.importorskip("mmseg")


@pytest.fixture
def quiet():
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    yield
    logging.disable(before)


def test_bad_input_is_refused_in_one_line_and_loses_nothing(quiet):
    cases = choose(1, 70, processes=False)
    found = run(cases, 1, lambda case, verdict: None)
    wrong = [
        f"{case.group}: {case.name}: {verdict.kind}: {verdict.detail}"
        for case, verdict in found
        if not verdict.fine
    ]
    assert not wrong, "\n".join(wrong)
    kinds = {verdict.kind for _, verdict in found}
    assert {"worked", "refused"} <= kinds


def test_tools_refuse_in_one_line(quiet):
    tools = [case for module in GROUPS for case in module.FIXED if case.process]
    chosen = [case for case in tools if case.name in ("tool/one-view", "tool/wrong-type")]
    found = run(chosen, 1, lambda case, verdict: None)
    assert [verdict.kind for _, verdict in found] == ["refused", "refused"], table(found)


def test_a_seed_gives_the_same_cases():
    names = [(case.group, case.name) for case in choose(5, 400)]
    assert names == [(case.group, case.name) for case in choose(5, 400)]
    assert len(set(names)) == len(names) and 380 <= len(names) <= 420

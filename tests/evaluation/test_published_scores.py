from __future__ import annotations

import dataclasses
from pathlib import Path

from vice.evaluation.protocol_effects import KINDS
from vice.evaluation.protocols import Protocol, get_protocol
from vice.evaluation.published import PROTOCOLS
from vice.evaluation.published_scores import SCORES, published_scores


def test_each_score_names_what_there_is():
    fields = {f.name for f in dataclasses.fields(Protocol)}
    for score in SCORES:
        assert score.kind in KINDS and score.protocol in PROTOCOLS and score.source
        assert set(score.changes) <= fields
        assert all(0 < v < 100 for v in (score.miou, score.accuracy) if v is not None)


def test_a_score_stands_beside_its_own_protocol_alone():
    protocol = get_protocol("hummingbird2023")
    assert published_scores("retrieval", protocol) == []
    for memory, miou in ((102_400, 37.2), (1_024_000, 43.1), (7, None)):
        voc = dataclasses.replace(protocol, dataset="voc21", retrieval_memory=memory)
        found = {s.model: s.miou for s in SCORES if _fits(s, memory)}
        assert found.get("DINO ViT-S/16") == miou, voc


def _fits(score, memory):
    return score.protocol == "hummingbird2023" and memory == score.changes.get(
        "retrieval_memory", 102_400
    )


def test_the_documentation_has_the_same_scores():
    text = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for score in SCORES:
        both = score.miou is not None and score.accuracy is not None
        shown = f"{score.miou:.2f} / {score.accuracy:.2f}" if both else f"{score.miou or 0:.1f}"
        shown = f"{score.accuracy:g}" if score.miou is None else shown
        cells = [line.split("|")[2:] for line in lines if line.startswith(f"| {score.model}")]
        assert any(shown == cell.strip() for row in cells for cell in row), score

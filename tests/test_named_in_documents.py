"""Names, options and overrides in the pages that say what to type: each is one of the code's."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.helpers import commands
from tests.helpers.forked import ROOT

#: Groups of the keys that the pages name without them.
GROUPS = {
    "config.MODEL.TRUNK.VICE": {
        *("backbone", "decoder", "weights", "frozen", "stages", "padding", "centre"),
    },
    "config.MODEL.TRUNK.EXECUTION": {"precision", "channels_last", "compiled"},
    "config.VICE.LOSS": {"region_vector", "reduction", "align_corners", "coherence_gradient"},
}
#: The pages that say what to type; what else they name has to exist, too.
PAGES = (
    *("README.md", "docs/folder.md", "docs/benchmark.md", "docs/checkpoint.md"),
    *("docs/training.md", "docs/scoring.md", "docs/papers.md"),
)
GUIDES = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
_OPTIONS = {
    option
    for file in [
        *(ROOT / "tools").glob("*.py"),
        *(ROOT / "vice" / "command").glob("*.py"),
        *(ROOT / "tests" / "campaigns").glob("*.py"),
        ROOT / "vice" / "evaluation" / "options.py",
    ]
    for option in re.findall(r'"(--[a-z-]+)"', file.read_text(encoding="utf-8"))
}
#: Options of sbatch, srun and pip.
_OTHERS = {"--gres", "--kill-on-bad-exit", "--no-deps"}


def _overrides():
    for code in commands.inline(GUIDES):
        for text in code.replace('"', "").split():
            key, equals, _ = text.partition("=")
            if not equals or key.startswith("-") or key == "IMAGES" or "@" in key:
                continue
            group = next((group for group, keys in GROUPS.items() if key in keys), None)
            if key.startswith("config."):
                yield text
            elif group is not None:
                yield f"{group}.{text}"
            else:
                assert key in {"config", "coco27", "cityscapes19", *_protocol_fields()}, text


def _protocol_fields():
    from vice.evaluation.protocols import Protocol

    return {field.name for field in dataclasses.fields(Protocol)}


def test_overrides_in_the_text():
    from vice.plugins.vissl.config.compose import compose

    found = [text.replace("timm:NAME", "timm:convnext_tiny") for text in sorted(set(_overrides()))]
    assert len(found) > 12
    of_one = [text for text in found if text.startswith("config.VICE.FOREGROUND.")]
    found = [text for text in found if text not in of_one]
    assert compose(["config=vice/maskcontrast_folder", *of_one]).config.VICE.FOREGROUND.objects
    for config in ("vice/folder", "vice/coco_highres"):
        # Of keys that the text gives several values the last one counts.
        composed = compose([f"config={config}", *found]).config
        assert composed.MODEL.TRUNK.VICE.frozen is True
        assert composed.MODEL.TRUNK.EXECUTION.compiled is True


def test_names_in_the_text_exist():
    timm = pytest.importorskip("timm")
    from vice.evaluation.protocols import PROTOCOLS
    from vice.paths import experiment_names
    from vice.plugins.vissl.config.compose import compose

    config, codes = compose(["config=vice/folder"]), commands.inline(GUIDES)
    for code in codes:
        if name := re.fullmatch(r"timm:([a-z]\S+)", code):
            assert timm.is_model(name[1].partition("@")[0]), code
        if re.fullmatch(r"vice/[a-z_]+", code):
            assert code in experiment_names()
        if re.fullmatch(r"config\.[\w.]+", code):
            node = config
            for part in code.split("."):
                node = node[part]
        if re.fullmatch(r"(tools|scripts|configs|docs|notebooks|vice)/[\w./]+", code):
            assert (ROOT / code).exists() or code in experiment_names(), code
        for option in re.findall(r"(?<!\S)--[a-z-]+", code):
            assert option in _OPTIONS or option in _OTHERS, option
    assert {"vice2022_highres", "vice2022_lowres", "picie2021", "stego2022"} <= set(PROTOCOLS)

"""Options declared once: what is refused, and how defaults and help texts follow the fields."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, dataclass

import pytest

from vice.errors import UserError
from vice.images import StandardSize, standardize
from vice.losses import DenseSwAVLoss
from vice.losses.options import LossOptions
from vice.models import EmbedderOptions, build_embedder
from vice.models.execution import Execution
from vice.options import (
    FLAG,
    LINE,
    NULL,
    PATH,
    SHARE,
    Option,
    check,
    defaults,
    describe,
    either,
    list_of,
    make,
    number,
    one_of,
    option,
    options_of,
    whole,
)
from vice.superpixels import Superpixels
from vice.views import ViewSampler
from vice.views.photometric import Photometric


@dataclass(frozen=True)
class Options:
    clusters: int = option(20, whole(1, 10**6), "clusters that k-means looks for")
    scale: tuple[float, float] = option((0.5, 2.0), list_of(number(0, 9), 2, 2), "least, greatest")
    folder: str | None = option(None, either(PATH, NULL), "where they are kept")
    built: int = 0


GOOD = {"clusters": 3, "scale": [1, 2.5], "folder": None}


def test_defaults_are_plain_and_pass_their_own_rules():
    assert defaults(Options) == {"clusters": 20, "scale": [0.5, 2.0], "folder": None}
    check(Options, defaults(Options), "config.X")


def test_values_become_an_instance_with_tuples():
    made = make(Options, GOOD)
    assert made == Options(3, (1, 2.5), None)
    with pytest.raises(FrozenInstanceError):
        made.clusters = 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clusters": 0}, r"config\.X\.clusters=0: must be a whole number from 1 to 1000000$"),
        ({"clusters": True}, r"config\.X\.clusters=True: must be a whole number"),
        ({"clusters": 2.0}, r"config\.X\.clusters=2.0: must be a whole number"),
        ({"scale": [1]}, r"config\.X\.scale=\[1\]: must be a list of length 2, each a number"),
        ({"scale": [1, "2"]}, r"config\.X\.scale=\[1, '2'\]"),
        ({"folder": " "}, r"config\.X\.folder=' ': must be a path, or null"),
        ({"cluster": 3}, r"config\.X: there is no option 'cluster'; did you mean clusters\?"),
        ({"sparkle": 3}, r"config\.X: there is no option 'sparkle'$"),
        ({"built": 3}, r"config\.X: there is no option 'built'"),
    ],
)
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(UserError, match=message):
        check(Options, {**GOOD, **values}, "config.X")


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match=r"config\.X\.scale is missing: must be a list of length 2"):
        check(Options, {"clusters": 3, "folder": None}, "config.X")


def test_a_part_of_a_group_leaves_other_keys_alone():
    part = {"seed": Option(whole(0, 9), "seed")}
    check(part, {"seed": 3, "other": "x"}, "", others=True)
    with pytest.raises(UserError, match="^seed=10: must be"):
        check(part, {"seed": 10}, "")
    assert defaults(part) == {}


def test_groups_inside_a_group():
    check(Options, {**GOOD, "INNER": {}}, "config.X", groups=["INNER"])
    with pytest.raises(UserError, match="no option 'INER'; did you mean INNER"):
        check(Options, {**GOOD, "INER": {}}, "config.X", groups=["INNER"])


def test_help_names_every_option_with_value_meaning_and_range():
    lines = list(describe(Options, "config.X", {"clusters": 7, "scale": [1, 2]}))
    assert lines[:4] == [
        "config.X.clusters=7",
        "    clusters that k-means looks for; must be a whole number from 1 to 1000000",
        "config.X.scale=[1,2]",
        "    least, greatest; must be a list of length 2, each a number from 0 to 9",
    ]
    assert lines[4] == "config.X.folder=null"
    assert len(lines) == 2 * len(options_of(Options))
    assert all(len(line) <= 40 for line in describe(Options, "config.X", width=40))


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (whole(1, 3), [1, 3], [0, 4, True, 2.0, "2", None]),
        (number(0, 2), [0, 2, 1.5], [-0.1, 2.1, float("nan"), float("inf"), True, "1"]),
        (SHARE, [0, 0.5, 1], [1.01]),
        (one_of("a", "b"), ["a"], ["c", ["a"], None]),
        (FLAG, [True, False], [0, "true", None]),
        (LINE, ["", "a b"], ["a\nb", "a\0", 3]),
        (PATH, ["a"], ["", " ", "a\0b", None]),
        (list_of(whole(0, 9), 1, 2), [[1], (1, 2)], [[], [1, 2, 3], ["1"], 1, "1"]),
        (either(whole(0, 9), NULL), [0, None], ["null"]),
    ],
)
def test_rules(rule, good, bad):
    assert all(map(rule.holds, good)) and not any(map(rule.holds, bad))


@pytest.mark.parametrize(
    ("function", "group", "own"),
    [
        (build_embedder, EmbedderOptions, {"outputs"}),
        (DenseSwAVLoss, LossOptions, {"num_views", "num_prototypes", "dim", "group"}),
        (standardize, StandardSize, {"image", "interpolation"}),
        (ViewSampler, ViewSampler, set()),
        (Photometric, Photometric, set()),
        (Superpixels, Superpixels, set()),
        (Execution, Execution, set()),
    ],
)
def test_a_signature_says_what_the_options_say(function, group, own):
    arguments = inspect.signature(function).parameters
    assert set(arguments) - own == set(options_of(group))
    for name, each in options_of(group).items():
        assert arguments[name].default == each.default
        assert each.meaning and each.rule.text
    check(group, defaults(group), "x")
    if own <= {"outputs"}:  # a method's, which no person says
        assert make(function, defaults(group)) is not None

"""The tables as data: every row composes at every scale, and runs are shared as they should."""

from __future__ import annotations

import copy

import pytest
from omegaconf import OmegaConf

from vice.datasets import DATASETS
from vice.errors import UserError
from vice.evaluation.protocols import default_protocol, get_protocol
from vice.experiments.reproduce.tables import (
    KINDS,
    Experiment,
    key_of,
    last_of_each,
    load_scale,
    load_table,
    merge,
    select_readouts,
    select_rows,
    table_names,
)

pytest.importorskip("vissl")

from vice.experiments.reproduce.evaluations import arguments_of
from vice.experiments.reproduce.plan import (
    ReproducePlan,
    composed,
    parse_datasets,
    plan_run,
    run_folder,
)
from vice.plugins.vissl.config import checks
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose

SCALES = ("tiny", "small", "full")
#: A scale overrides the same keys of all rows, and has tests of its own below.
QUICK = (*(pytest.param(name, marks=pytest.mark.slow) for name in ("tiny", "small")), "full")
METRICS = ({"miou"}, {"miou", "accuracy"}, {"difference"}, {"milliseconds"})


def plan(tmp_path, scale="full", **changes):
    return ReproducePlan(tmp_path, load_scale(scale), **changes)


def row(table, name) -> Experiment:
    (found,) = [row for row in load_table(table).rows if row.name == name]
    return found


def readouts_of(row):
    """Names that the evaluations of a row may give."""
    names = {"forward", "loss", "backward", "optimiser"} if row.untrained else set(row.evaluate)
    for label, arguments in row.evaluate.items():
        before = "" if label == arguments["kind"] else f"{label} "
        matchings: tuple[str, ...] = ("greedy", "hungarian")
        if arguments["kind"] == "retrieval":
            protocol = get_protocol(arguments["protocol"], arguments["dataset"])
            names |= {f"{before}retrieval {m}" for m in protocol.retrieval_matchings}
        elif "protocol" in arguments:
            protocol = get_protocol(arguments["protocol"], arguments["dataset"])
            matchings = (*matchings, *protocol.matchings)
        for k in arguments.get("clusters", ()):
            names |= {f"{before}{k} {matching}" for matching in matchings}
    return names


@pytest.mark.parametrize("name", table_names())
def test_a_table_is_well_formed(name):
    table = load_table(name)
    assert table.title and len(table.rows) >= 1
    for found in table.rows:
        assert found.evaluate or found.published
        assert all(entry["kind"] in KINDS for entry in found.evaluate.values())
        figures = {k: v for k, v in found.published.items() if k != "training"}
        assert all(set(value) in METRICS for value in figures.values())
        assert table.source or not figures
        if found.evaluate:
            assert set(figures) <= readouts_of(found), found.name
            assert (found.config is None) != (found.spec is None)
            assert found.trained_on in DATASETS or found.spec or found.untrained


@pytest.mark.parametrize("scale", QUICK)
@pytest.mark.parametrize("name", table_names())
def test_every_row_composes_and_differs(name, scale, tmp_path, monkeypatch):
    asked = plan(tmp_path, scale)
    keys = {}
    monkeypatch.setattr(checks, "build_embedder", _built_once(checks.build_embedder))
    # Composing takes time, and a scale overrides the same keys of all rows.
    rows = load_table(name).rows[: None if scale == "full" else 2]
    for found in rows:
        for label in found.evaluate:
            arguments = arguments_of(found, label, asked)
            if arguments["kind"] != "timing":
                data = arguments["dataset"]
                protocol = arguments.get("protocol") or default_protocol(data)
                get_protocol(protocol, data, **arguments.get("changes", {}))
        if found.config is not None and not found.initial:
            run = plan_run(found, asked, 0)
            named = [key_of(text) for text in run.overrides]
            assert len(set(named)) == len(named)
            _check(composed(run.config, run.overrides))
            key = run.key(found.trained_on)
            assert keys.setdefault(key, found.name) == found.name or (
                # Nothing starts from ImageNet's weights at this scale.
                (name, scale) == ("scratch", "tiny")
            )


def _built_once(build):
    """Memoization: rows share networks, and building them is most of what a check takes."""
    built = {}

    def once(**options):
        key = repr(options)
        if key not in built:
            built[key] = build(**options)
        return built[key]

    return once


def _check(plain):
    """As training does, but for folders of masks, which a user makes."""
    plain = copy.deepcopy(plain)
    if plain["config"]["VICE"].get("FOREGROUND"):
        plain["config"]["VICE"]["FOREGROUND"] |= {"source": "builtin", "folder": None}
    check_values(OmegaConf.create(plain))


def test_the_last_override_of_a_key_counts_where_it_stands():
    assert last_of_each(["a.b=1", "a={c: 2}", "a.b=3"]) == ["a={c: 2}", "a.b=3"]
    assert last_of_each(["+a=1", "b=2", "a=3", "+c=4", "++c=5"]) == ["b=2", "+a=3", "+c=5"]


def test_what_the_user_gives_is_given_once(tmp_path, caplog):
    found = row("methods", "MDC")
    given = ("config.OPTIMIZER.num_epochs=3", "config.VICE.METHOD.clusters=9")
    run = plan_run(found, plan(tmp_path, "quick", overrides=given), 2)
    plain = composed(run.config, run.overrides)["config"]
    assert (plain["OPTIMIZER"]["num_epochs"], plain["VICE"]["METHOD"]["clusters"]) == (3, 9)
    assert plain["SEED_VALUE"] == 2
    assert "times: the last" not in caplog.text
    twice = (*given, "config.OPTIMIZER.num_epochs=4")
    for seed in range(2):
        plan_run(found, plan(tmp_path, "quick", overrides=twice), seed)
    assert caplog.text.count("config.OPTIMIZER.num_epochs is given 2 times: the last, 4") == 1


@pytest.mark.parametrize("scale", SCALES)
def test_values_can_be_trained_with(scale, tmp_path):
    for table, name in (
        ("ablation_lowres", "superpixels of 10 px, masking, DeepLabV3+"),
        ("hyperparameters", "queue of 10,000 instead of 5,000"),
        ("element_size", "superpixels, 5 px"),
    ):
        run = plan_run(row(table, name), plan(tmp_path, scale), 1)
        check_values(compose([f"config={run.config}", *run.overrides]))


def test_a_run_folder_can_be_a_folder_anywhere(stripes, tmp_path):
    asked = plan(tmp_path, "quick", datasets={"*": str(stripes)})
    found = row("photographs_imagenet", "ViCE")
    folder, _ = run_folder(plan_run(found, asked, 0), found, asked)
    assert folder.name.startswith("timm-tf_efficientnet_lite0-vice_timm-quick-seed0-")
    assert folder.parent == tmp_path / "runs"


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_rows_of_several_tables_share_one_run(scale, tmp_path):
    groups = (
        [
            ("main", "ViCE, COCO, high resolution"),
            ("ablation_highres", "superpixels, DeepLabV3+"),
            ("bottleneck", "ViCE"),
            ("few_shot", "from ViCE"),
            ("domain", "trained on COCO"),
        ],
        [
            ("main", "ViCE, Cityscapes, low resolution"),
            ("ablation_lowres", "superpixels of 10 px, masking"),
            ("element_size", "superpixels, 10 px"),
            ("scratch", "from ImageNet"),
            ("backbones", "Cityscapes, low resolution, ResNet-18"),
        ],
        [("hyperparameters", "baseline"), ("width_and_prototypes", "D 64, K 128")],
    )
    keys = [
        {plan_run(row(*place), plan(tmp_path, scale), 0).key("x") for place in group}
        for group in groups
    ]
    assert [len(found) for found in keys] == [1, 1, 1] and len(set.union(*keys)) == 3


def test_the_key_follows_what_changes_a_result_and_nothing_else(tmp_path):
    found = row("scratch", "from ImageNet")

    def key(seed=0, images="x", **changes):
        return plan_run(found, plan(tmp_path, **changes), seed).key(images)

    base = key()
    assert base == key(overrides=("config.SLURM.PARTITION=gpu", "config.LOG_FREQUENCY=7"))
    assert base == key(data_root="elsewhere", seed=0) == key(slurm=True, seeds=3, device="cpu")
    others = [
        key(seed=1),
        key(images="y"),
        key(scale="small"),
        key(overrides=("config.DISTRIBUTED.NUM_NODES=1",)),
        key(overrides=("config.VICE.LOSS.epsilon=0.06",)),
    ]
    assert len({base, *others}) == 6


def test_a_scale_multiplies_what_rows_say_and_keeps_what_makes_them_differ(tmp_path):
    def config(name, **changes):
        run = plan_run(row("hyperparameters", name), plan(tmp_path, "tiny", **changes), 0)
        return composed(run.config, run.overrides)["config"]["VICE"]

    base, fewer = config("baseline"), config("64 prototypes instead of 128")
    assert base["PROTOTYPES"]["num_prototypes"] == 16 and base["PROTOTYPES"]["dim"] == 8
    assert fewer["PROTOTYPES"]["num_prototypes"] == 8
    assert base["VIEWS"]["size"] == 94 and base["VIEWS"]["mask_intensity"] == 0.1
    assert config("no masks")["VIEWS"]["mask_intensity"] == 0
    assert config("3 views instead of 4")["VIEWS"]["num_views"] == 3
    said = config("baseline", overrides=("config.VICE.VIEWS.size=50",))
    assert said["VIEWS"]["size"] == 50


def test_images_of_a_run_are_those_of_the_data_set_in_its_place(stripes, tmp_path):
    found = row("scratch", "from ImageNet")
    asked = plan(tmp_path, "tiny", datasets=parse_datasets([str(stripes)]))
    folder, images = run_folder(plan_run(found, asked, 2), found, asked)
    assert folder.parent == tmp_path / "runs" and "tiny-seed2" in folder.name
    other = row("domain", "trained on COCO"), row("domain", "trained on Cityscapes")
    assert len({run_folder(plan_run(r, asked, 0), r, asked)[0] for r in other}) == 1
    listed = images.read_text().split()
    assert listed == [str(path) for path in sorted((stripes / "images" / "train").iterdir())]
    # The papers' data need not be listed.
    asked = plan(tmp_path, data_root=str(tmp_path / "data"))
    _, images = run_folder(plan_run(found, asked, 0), found, asked)
    assert images == tmp_path / "data" / "cityscapes" / "leftImg8bit" / "train"


def test_what_a_scale_changes_of_an_evaluation_spares_what_makes_it_different(tmp_path):
    asked = plan(tmp_path, "tiny", datasets={"coco27": "photos"})
    found = arguments_of(row("bottleneck", "ViCE"), "F 45", asked)
    assert found["changes"] == {
        "linear_iterations": 60,
        "linear_batch": 4,
        "linear_bottleneck": 45,
    }
    assert found["dataset"] == "photos" and found["protocol"] == "native"
    full = arguments_of(row("main", "ViCE, COCO, low resolution"), "linear", plan(tmp_path))
    assert full == {"kind": "linear", "dataset": "coco27", "protocol": "vice2022_lowres"}


def test_only_the_papers_own_setting_is_comparable(tmp_path):
    assert plan(tmp_path).comparable()
    assert plan(tmp_path, overrides=("config.SLURM.PARTITION=gpu",)).comparable()
    assert not plan(tmp_path, overrides=("config.OPTIMIZER.num_epochs=1",)).comparable()
    assert not plan(tmp_path, "small").comparable()
    assert not plan(tmp_path, datasets={"*": "camvid"}).comparable()


def test_command_line_of_data_sets(tmp_path):
    (tmp_path / "a=b").mkdir()
    found = parse_datasets(["camvid", "coco27=msrc21", "cityscapes19=own"])
    assert found["*"] == "camvid" and found["coco27"] == "msrc21"
    assert found["cityscapes19"].endswith("/own")
    assert parse_datasets([str(tmp_path / "a=b")]) == {"*": str(tmp_path / "a=b")}
    with pytest.raises(UserError, match="imagenet is none of"):
        parse_datasets(["imagenet=camvid"])


def test_what_is_unknown_is_named():
    with pytest.raises(UserError, match="table 'mian' is unknown; did you mean main"):
        load_table("mian")
    with pytest.raises(UserError, match="scale 'huge' is unknown"):
        load_scale("huge")
    table = load_table("hyperparameters")
    with pytest.raises(UserError, match="no such row"):
        select_rows(table, ["*masks", "queues"])
    chosen = select_rows(table, ["no m*"])
    assert [found.name for found in chosen.rows] == ["baseline", "no masks"]
    with pytest.raises(UserError, match="no row of .* is evaluated so, but linear"):
        select_readouts(table, ["retrieved"])
    assert {tuple(row.evaluate) for row in select_readouts(table, ["linear"]).rows} == {("linear",)}
    assert select_readouts(table, []) == table
    assert select_rows(table, []) == table


def test_groups_are_merged_deeply():
    first = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert merge(first, {"a": {"c": [2]}, "e": 3}) == {"a": {"b": 1, "c": [2]}, "d": 2, "e": 3}
    assert first == {"a": {"b": 1, "c": [1]}, "d": 2}


@pytest.mark.parametrize(
    ("table", "name", "key"),
    [
        ("main", "ViCE, COCO, high resolution", "af904f979d"),
        ("main", "ViCE, COCO, low resolution", "547107847a"),
        ("ablation_lowres", "superpixels of 10 px, masking, DeepLabV3+", "b99b8987c3"),
        ("photographs", "four stages of the network", "365a4edad8"),
        ("photographs_imagenet", "ViCE", "2780404da8"),
        ("photographs", "representatives", "9b292fe3fb"),
        ("photographs_imagenet", "representatives", "52a49c9631"),
    ],
)
def test_runs_of_version_0_1_are_found_again(table, name, key, tmp_path):
    """Their folders are named by these keys."""
    assert plan_run(row(table, name), plan(tmp_path, "tiny"), 0).key("X") == key

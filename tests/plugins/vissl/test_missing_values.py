"""``???`` in a file stands for a value that somebody else has to give."""

from __future__ import annotations

import pytest

pytest.importorskip("vissl")

from vice.errors import UserError
from vice.plugins.vissl.config.compose import compose


@pytest.fixture
def write(tmp_path, monkeypatch):
    folder = tmp_path / "configs" / "config" / "vice"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def written(name, settings, base="/config/vice/folder"):
        head = f"# @package _global_\ndefaults:\n  - {base}\n  - _self_\nconfig:\n"
        (folder / f"{name}.yaml").write_text(f"{head}  {settings}\n")

    return written


@pytest.mark.parametrize(
    ("settings", "key", "there"),
    [
        ('OPTIMIZER: {num_epochs: "???"}', "config.OPTIMIZER.num_epochs", "8"),
        ("SEED_VALUE: ???", "config.SEED_VALUE", "0"),
        ("CHECKPOINT:\n    DIR: ???", "config.CHECKPOINT.DIR", "outputs/folder"),
        ("VICE:\n    VIEWS:\n      num_views: '???'", "config.VICE.VIEWS.num_views", "3"),
        ('VICE: {VIEWS: {scale: ["???", 2.0]}}', "config.VICE.VIEWS.scale[0]", None),
        ("VICE:\n    HEALTH: ???", "config.VICE.HEALTH", None),
        ("NEW: ???", "config.NEW", None),
    ],
)
def test_what_is_missing_is_named_with_its_file(write, settings, key, there):
    """OmegaConf keeps the value that the base has, without a word."""
    write("mine", settings)
    write("child", "LOG_FREQUENCY: 7", base="/config/vice/mine")
    for config in ("vice/mine", "vice/child", "'vice/mine'"):
        with pytest.raises(UserError) as refusal:
            compose([f"config={config}"])
        said = str(refusal.value)
        assert f"{key} is ???" in said and "value that is missing" in said
        if there and config == "vice/mine":
            assert "mine.yaml" in said and f"has {there} there" in said


def test_whoever_gives_it_may_be_a_later_file_or_the_command_line(write):
    write("mine", "OPTIMIZER:\n    num_epochs: ???")
    write("child", "OPTIMIZER: {num_epochs: 5}", base="/config/vice/mine")
    assert compose(["config=vice/child"]).config.OPTIMIZER.num_epochs == 5
    # 8 is what stands there anyway.
    write("same", "OPTIMIZER: {num_epochs: 8}", base="/config/vice/mine")
    assert compose(["config=vice/same"]).config.OPTIMIZER.num_epochs == 8
    for given in (
        "config.OPTIMIZER.num_epochs=8",
        "config.OPTIMIZER={num_epochs:8}",
        "config={OPTIMIZER:{num_epochs:8}}",
        "++config.OPTIMIZER.num_epochs=8",
    ):
        assert compose(["config=vice/mine", given]).config.OPTIMIZER.num_epochs == 8
    for other in (
        "config.OPTIMIZER.weight_decay=0.1",
        "config.OPTIMIZER={weight_decay:0.1}",
        "config={OPTIMIZER:{weight_decay:0.1},SEED_VALUE:8}",
        "config={}",
    ):
        with pytest.raises(UserError, match=r"config\.OPTIMIZER\.num_epochs is \?\?\?"):
            compose(["config=vice/mine", other])

"""A training as a process of its own: its messages, its progress, and paths of any kind."""

from __future__ import annotations

import sys

import pytest

from vice import training
from vice.errors import UserError

pytest.importorskip("vissl")


def test_what_training_refuses_is_one_message(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty") as error:
        training.train("vice/folder", tmp_path / "empty", tmp_path / "run")
    assert "\n" not in str(error.value) and not str(error.value).startswith("error:")


def test_progress_of_a_training_is_passed_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0.0)
    lines = (
        "INFO trainer_main.py: 276: Total 480 iterations for training",
        "INFO log_hooks.py: Rank: 0; [ep: 0] iter: 25; lr: 0.002; loss: 3.85; btime(ms): 726; "
        "eta: 0:05:30; peak_mem(M): -1;",
        "something else",
    )
    script = f"import sys; print({chr(10).join(lines)!r}); sys.stderr.write('oops'); sys.exit(3)"
    with caplog.at_level("INFO", logger="vice.training"):
        assert training._follow([sys.executable, "-c", script], tmp_path) == (3, "oops")
    assert caplog.messages[1:] == ["training: step 25 of 480, loss 3.85, 0:05:30 left"]


@pytest.mark.parametrize(
    "name", ["plain", "it's", "a, b [c] {d}", "back\\slash", "end\\", "both\\'", "x=1:2 $y"]
)
def test_any_path_survives_hydra(tmp_path, name):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    path = tmp_path / name
    parsed = OverridesParser.create().parse_override(f"key=[{training.quote(path)}]")
    assert [str(value) for value in parsed.value()] == [str(path)]


def test_a_configuration_is_read_back_as_plain_yaml(tmp_path):
    file = tmp_path / "train_config.yaml"
    assert training.read_config(tmp_path) == {}
    plain = {"a": "${oc.env:HOME}", "_target_": "os.system"}
    file.write_text("VICE: {a: '${oc.env:HOME}', _target_: os.system}\n")
    assert training.read_config(tmp_path)["VICE"] == plain
    for text in ("!!python/object/apply:os.system ['true']", "[1]", "a: [", "\x00", "- &a [*a]"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"train_config\.yaml: "):
            training.read_config(tmp_path)

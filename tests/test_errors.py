"""Messages name arguments as their reader sets them, and nothing in a value is a placeholder."""

from __future__ import annotations

import ast
import pickle
import re
import sys
from pathlib import Path

import pytest
from torch._utils import ExceptionWrapper

import vice
from vice.errors import OptionError, UserError, noted, one_line, placeholders, spell

CORE = Path(vice.__file__).parent


def test_arguments_by_their_own_names_and_by_keys():
    error = OptionError("{count} in {Loss.num_prototypes}={count}, or {decoder=auto}", count=3)
    assert isinstance(error, UserError)
    assert str(error) == one_line(error) == "3 in num_prototypes=3, or decoder=auto"
    keys = {"Loss.num_prototypes": "config.K", "decoder=auto": "config.NAME=x", "count": "no"}
    assert error.spelled(keys) == "3 in config.K=3, or config.NAME=x"
    assert spell("lower {rate} or {other}", {"rate": "config.LR"}) == "lower config.LR or other"


@pytest.mark.parametrize(
    "text", ["{", "}{", "{}", "{0}", "{a b}", "{{}}", "50 %", "{a!r}", "{ a }"]
)
def test_braces_that_hold_no_name_stay(text):
    assert str(OptionError(text)) == spell(text, {}) == text
    assert str(OptionError("see {path}", path=text)) == f"see {text}"


def test_a_value_is_never_read_again():
    error = OptionError("{folder} for {k}", folder="/data/{k}/{folder}")
    assert error.spelled({"k": "config.K"}) == "/data/{k}/{folder} for config.K"


def test_the_way_through_other_processes():
    error = OptionError("{path} for {k}", path="{x}")
    back = pickle.loads(pickle.dumps(error))
    assert back.spelled({"k": "config.K"}) == "{x} for config.K"
    try:
        raise OptionError("{path} holds {k}", path="/a/{name}")
    except OptionError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(OptionError) as caught:
        wrapped.reraise()
    assert one_line(caught.value) == "/a/{name} holds k"


def _templates():
    """File, placeholders and values of each `OptionError` that the core raises."""
    for file in sorted(CORE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "OptionError":
                parts = [part.value for part in ast.walk(node.args[0])
                         if isinstance(part, ast.Constant)]  # fmt: skip
                yield file, placeholders("".join(parts)), {each.arg for each in node.keywords}


def test_vissl_has_a_key_for_each_argument_that_the_core_names():
    from vice.plugins.vissl.option_keys import KEYS

    found = list(_templates())
    assert len(found) > 5
    for file, names, values in found:
        assert values <= set(names), file
        assert set(names) - values <= set(KEYS), file


def test_each_key_of_vissl_is_one_of_its_configuration():
    from omegaconf import OmegaConf

    from vice.plugins.vissl.config.compose import compose
    from vice.plugins.vissl.option_keys import KEYS

    # Each method has options of its own.
    methods = (
        "folder",
        "picie_folder",
        "mdc_folder",
        "iic_folder",
        "maskcontrast_folder",
        "stego_folder",
    )
    configs = [compose([f"config=vice/{name}"]) for name in methods]
    for argument, key in KEYS.items():
        name = key.partition("=")[0]
        assert any(OmegaConf.select(c, name, default=KEYS) is not KEYS for c in configs), argument


def test_the_core_names_no_key_of_a_plugin():
    rooms = {"plugins", "experiments", "command"}
    for file in CORE.rglob("*.py"):
        if file.relative_to(CORE).parts[0] not in rooms:
            tree = ast.parse(file.read_text())
            texts = {id(node): node.value for node in ast.walk(tree)
                     if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
            for node in ast.walk(tree):
                # Docstrings and other strings that stand alone; examples in them are no messages.
                if isinstance(node, ast.Expr):
                    texts.pop(id(node.value), None)
            assert not [text for text in texts.values() if re.search(r"config\.[A-Z]", text)], file


def test_an_error_of_others_gets_a_note_and_our_own_none():
    for error in (RuntimeError("sides must be multiples of 32"), UserError("wrong")):
        with pytest.raises(type(error)) as raised, noted("while a.png was embedded"):
            raise error
        notes = ["while a.png was embedded"] if type(error) is RuntimeError else []
        if sys.version_info >= (3, 11):
            assert getattr(raised.value, "__notes__", []) == notes

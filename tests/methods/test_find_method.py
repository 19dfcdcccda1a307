"""Methods of one's own, by name; what is wrong with their files is said in a line."""

from __future__ import annotations

import sys

import pytest

from vice.errors import UserError
from vice.methods import METHODS, Method, build_method, find_method
from vice.options import options_of

FILES = {
    'raise ValueError("boom")': r"ValueError: boom; .*faulty\.py, line 1",
    "def broken(:": r"SyntaxError: .*; .*line",
    "1 / 0": r"ZeroDivisionError: division by zero; .*faulty\.py, line 1",
    "import no_such_package_anywhere": "ModuleNotFoundError: No module named",
    "x = 1": r"AttributeError: module 'faulty' has no attribute 'Mine'",
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_be_imported(text, tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    said = f"'faulty:Mine' cannot be imported .{FILES[text]}"
    with pytest.raises(UserError, match=said) as error:
        find_method("faulty:Mine")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [":SimCLR", "simclr:", ":", "", "vise"])
def test_a_name_that_lacks_a_part(name):
    with pytest.raises(UserError, match=f"there is no method {name!r}"):
        find_method(name)


#: Every abstract method, so that a class of one's own can be made.
WHOLE = "".join(f"    def {name}(self, *a): ...\n" for name in sorted(Method.__abstractmethods__))
HEAD = """from dataclasses import dataclass
from vice.methods import Method
from vice.options import option, whole
"""
LIKE = "@dataclass(frozen=True)\nclass Mine_:\n    {field}\n"
CLASSES = {
    "class Mine(Method):\n    def sample(self): ...\n": "lacks collate, finish, head, loss: ",
    f"class Mine(Method):\n    Options = dict\n{WHOLE}": "Options is no dataclass; write @datac",
    f"class Mine(Method):\n    Options = None\n{WHOLE}": "Options is no dataclass",
    f"class Mine(Method):\n    sections = {{'VIEWS': int}}\n{WHOLE}": "VIEWS is no dataclass",
    "class Mine_:\n    size: int = option(2, whole(1, 3), 'x')\n"
    f"class Mine(Method):\n    Options = Mine_\n{WHOLE}": "Options is no dataclass",
    LIKE.format(field="size: int = 3") + f"class Mine(Method):\n    Options = Mine_\n{WHOLE}":
        "size of Options does not say what it may be",
    LIKE.format(field="size: int") + f"class Mine(Method):\n    Options = Mine_\n{WHOLE}":
        "size of Options does not say what it may be",
    LIKE.format(field="size: int") + "class Mine(Method):\n"
    f"    sections = {{'VIEWS': Mine_}}\n{WHOLE}": "size of VIEWS does not say what it may be",
    LIKE.format(field="name: int = option(2, whole(1, 3), 'x')")
    + f"class Mine(Method):\n    Options = Mine_\n{WHOLE}": "no option may be called name",
    f"class Mine(Method):\n    outputs = ['mask']\n{WHOLE}": "outputs are .*, but must map names",
    f"class Mine(Method):\n    outputs = {{'mask': 'one'}}\n{WHOLE}": "but must map names to chan",
    f"class Mine(Method):\n    sections = {{'METHOD': Method.Options}}\n{WHOLE}":
        "sections has METHOD, which every training has; take another name",
    f"class Mine(Method):\n    sections = None\n{WHOLE}": "sections are None, but must map names",
    f"class Mine(Method):\n    measures = ('loss',)\n{WHOLE}": "but must be a list of Measure",
    f"class Mine(Method):\n    measures = None\n{WHOLE}": "measures are None, but must be a list",
    f"class Mine(Method):\n{WHOLE}    sample = None\n": "sample is None, but must be sample.self,",
    f"class Mine(Method):\n{WHOLE}    def sample(self, source): ...\n":
        "sample is called as sample.self, source, index, rng.: too many positional",
    f"class Mine(Method):\n{WHOLE}    def before_epoch(self): ...\n": "before_epoch is called as",
    f"class Mine(Method):\n{WHOLE}    def head(self, dim, more): ...\n": "missing a required arg",
}  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch):
    def find(text):
        (tmp_path / "own.py").write_text(HEAD + text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "own", raising=False)
        return find_method("own:Mine")

    return find


@pytest.mark.parametrize("text", CLASSES, ids=range(len(CLASSES)))
def test_a_class_that_no_training_can_be_made_of(text, mine):
    with pytest.raises(UserError, match=f"the method 'own:Mine'.*{CLASSES[text]}") as error:
        mine(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "lines",
    [
        "    def sample(self, *arguments, **more): ...\n",
        "    def sample(self, source, index, rng, size=3): ...\n",
        "    @staticmethod\n    def sample(source, index, rng): ...\n",
        "    head = lambda self, dim: None\n",
        "    loss = dict\n",
        "    import functools\n    head = functools.partialmethod(print)\n",
        "    def loss(self): ...\n    def helper(self, one, two): ...\n",
    ],
)
def test_a_class_may_write_its_functions_as_it_likes(lines, mine):
    assert mine(f"class Mine(Method):\n{WHOLE}{lines}").__name__ == "Mine"


def test_a_class_without_options_has_none(mine):
    found = mine(f"class Mine(Method):\n{WHOLE}")
    assert options_of(found.Options) == {}
    assert build_method({"METHOD": {"name": "own:Mine"}}).options == found.Options()


def test_methods_of_vice_are_whole():
    for name in METHODS:
        assert find_method(f"vice.methods:{METHODS[name].__name__}") is METHODS[name]

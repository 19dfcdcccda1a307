"""Names of files as bytes and as text."""

from __future__ import annotations

import os

import pytest

from vice.names import find_shown, name_bytes, printable, utf8_path

LATIN = os.fsdecode(b"stra\xdfe")


def test_bytes_are_those_on_the_disk():
    for raw in (b"plain", "照片".encode(), "e\u0301".encode(), b"stra\xdfe", b"\xff\xfe\n"):
        assert name_bytes(os.fsdecode(raw)) == raw
    # A surrogate that stands for no byte, as JSON may hold one, must not end anything.
    assert name_bytes("\ud800") == b"\xed\xa0\x80"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("photo 1.jpg", "photo 1.jpg"),
        ("照片 é😀", "照片 é😀"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("a\xa0b\u3000c", "a\xa0b\u3000c"),
        ("پیاده\u200cرو", "پیاده\u200cرو"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"),
        # Not yet given to a character, in the Unicode of this Python or of any.
        ("\U0001faff\U000378aa", "\U0001faff\U000378aa"),
        ("\ufffe\ufdd0", "\\ufffe\\ufdd0"),
        ("\xad\ufeff", "\\xad\\ufeff"),
        (LATIN, "stra\\xdfe"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[2J\x7f", "\\x1b[2J\\x7f"),
        ("\u202egpj", "\\u202egpj"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_shown_is_one_line_that_every_encoder_takes(name, shown):
    assert printable(name) == shown
    assert len(printable(name).encode("utf-8").splitlines()) == 1


def test_a_library_that_takes_utf_8_only_gets_another_path(tmp_path):
    for name in ("a", LATIN):
        (tmp_path / name).write_bytes(b"here")
        with utf8_path(tmp_path / name) as path:
            path.encode("utf-8")
            with open(path, "rb") as file:
                assert file.read() == b"here"


@pytest.mark.parametrize(
    "name", ["a.jpg", "a\nb.jpg", "a\\nb.jpg", "t\tab", LATIN, "\x1b[2J", "a\\b"]
)
def test_what_is_shown_leads_back_to_the_file(name, tmp_path, monkeypatch):
    folder = tmp_path / f"in {name}"
    folder.mkdir()
    (folder / name).write_text("")
    assert find_shown(printable(str(folder / name))) == str(folder / name)
    monkeypatch.chdir(tmp_path)
    assert find_shown(printable(f"in {name}/{name}")) == f"in {name}/{name}"
    assert find_shown(str(folder / name)) == str(folder / name)
    for lost in ("none\\n.jpg", "no\\n/none\\n.jpg", "/no\\n/none"):
        assert find_shown(lost) == lost

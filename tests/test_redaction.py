"""What counts as a secret, and what does not."""

from __future__ import annotations

import pytest

from vice.errors import UserError, one_line
from vice.redaction import redact, redact_text

NONE: dict[str, str] = {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:tok@host/x.torch", "https://***@host/x.torch"),
        ("s3://AKIA:sec@bucket/k", "s3://***@bucket/k"),
        ("https://ghp_0123456789abcdef@host/x", "https://***@host/x"),
        ("https://h/x?X-Amz-Signature=abcd&y=1", "https://h/x?X-Amz-Signature=***&y=1"),
        ("--wandb-key=0 WANDB_API_KEY=abcdefgh", "--wandb-key=0 WANDB_API_KEY=***"),
        ("Authorization: Bearer abcdefghijk", "Authorization: ***"),
        ("{'token': 'abcdef'}", "{'token': '***'}"),
    ],
)
def test_secrets_are_hidden(text, shown):
    assert "abcdefgh" not in redact_text(text, NONE)
    assert redact_text(text, NONE).startswith(shown.partition("***")[0])
    assert "***" in redact_text(text, NONE)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://git@github.com/x",
        "a/b@c:1.jpg",
        "timm:vit_small@/data/file.safetensors",
        "config.VICE.VIEWS.size=48",
        "monkey=3000",
        "TOKENS_NORM: True",
        "no such key: config.VICE.VIEW; did you mean config.VICE.VIEWS?",
    ],
)
def test_ordinary_text_stays(text):
    assert redact_text(text, NONE) == text


def test_values_of_secret_variables_are_hidden_wherever_they_stand(tmp_path):
    environment = {"HF_TOKEN": "hf_0123456789", "HOME": "/people/somebody", "KEY": str(tmp_path)}
    assert (
        redact_text("a hf_0123456789 b /people/somebody", environment) == "a *** b /people/somebody"
    )
    # The path of a file that is there is no secret, whatever its variable is called.
    assert redact_text(str(tmp_path), environment) == str(tmp_path)


def test_groups_keep_their_form():
    config = {
        "A": {"API_KEY": "secret", "TOKENS": 12, "NORM_TOKEN": True},
        "b": ("x", ["ftp://u:p@h"]),
    }
    found = {"A": {"API_KEY": "***", "TOKENS": 12, "NORM_TOKEN": True}, "b": ("x", ["ftp://***@h"])}
    assert redact(config, NONE) == found


def test_an_error_is_one_line_without_secrets_and_control_characters():
    error = UserError("https://u:p4ssw0rd@h/a\n  b\x1b[31m  c\udcdf: no such file")
    assert one_line(error) == "https://***@h/a b\\x1b[31m  c\\xdf: no such file"

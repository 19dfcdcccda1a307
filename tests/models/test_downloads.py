"""A hub that does not answer is asked once."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from vice.errors import UserError
from vice.models.load import load_extractor


@pytest.fixture
def deaf_hub(monkeypatch, tmp_path):
    """A server that hangs up on everybody, and how often somebody came."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = socket.create_server(("127.0.0.1", 0))
    calls = []

    def answer():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            calls.append(1)
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield calls
    server.close()


def test_a_hub_that_does_not_answer_is_asked_once(deaf_hub):
    pytest.importorskip("timm")
    from huggingface_hub import constants

    start = time.monotonic()
    with pytest.raises(UserError, match=r"cannot load .*timm:resnet10t.*timm:resnet10t@FILE"):
        load_extractor("timm:resnet10t")
    assert len(deaf_hub) <= 1
    assert time.monotonic() - start < 10
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_smal_patch16_224", "vit_small_patch16_224"),
        ("Resnet50", "resnet50"),
        ("resnet50x", "resnet50"),
        ("vit_small_patch14_dinov2.lvd14m", "vit_small_patch14_dinov2.lvd142m"),
        ("convnext-tiny", "convnext_tiny"),
        ("efficientnet_lite_0", "efficientnet_lite0"),
    ],
)
def test_a_slip_in_a_name_gets_the_nearest_one(name, near):
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=f"no model '{name}'; did you mean .*{near}"):
        load_extractor(f"random:timm:{name}")

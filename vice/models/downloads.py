"""Downloads of weights: tried once, and given up in seconds."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator

logger = logging.getLogger(__name__)
#: Seconds that a server has for an answer.
PATIENCE = 5.0


@contextlib.contextmanager
def hub_asked_once() -> Iterator[None]:
    """While it lasts, timm takes what the cache has if the Hugging Face hub does not answer once.

    The hub's library tries each of a model's files several times, with growing pauses.
    """
    try:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    if not before:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
        # HTTP errors: the hub's library is another one in each of its major versions.
        except Exception as error:
            hub = constants.ENDPOINT
            logger.info("%s does not answer (%s): only the cache is used", hub, error)
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def impatient_sockets() -> Iterator[None]:
    """While it lasts, a connection that gets no answer fails after seconds instead of minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(4 * PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

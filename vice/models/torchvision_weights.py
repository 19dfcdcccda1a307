"""Pretrained weights of torchvision, read as any other file is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision

from vice.models.foreign import read_tensors


def default_weights(name: str) -> dict[str, Any]:
    """The weights of torchvision's default for a model, from its cache or its server.

    torchvision's own loader lets a file in the cache run code.

    Args:
        name: As in `torchvision.models`.

    Returns:
        State dict of the model.

    Raises:
        OSError: They cannot be fetched, or not be kept.
        RuntimeError: What came has another checksum.
        UserError: The file is no whole file of tensors.
    """
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r"-([a-f0-9]{8,})\.", file.name)
        torch.hub.download_url_to_file(url, str(file), digest and digest[1])
    state = read_tensors(file)
    return state if isinstance(state, dict) else {}

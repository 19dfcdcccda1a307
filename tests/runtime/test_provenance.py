from __future__ import annotations

import hashlib

import torch
from torch import nn

from vice.models.embeddings import CheckedEmbedder
from vice.models.lab import LabEmbedder
from vice.runtime.provenance import digest, digest_tensors, known_digest, versions


def test_versions_names_what_is_installed():
    found = versions()
    assert torch.__version__.startswith(found["torch"])
    assert "python" in found and "vice" in found
    assert all(isinstance(value, str) and value for value in found.values())


class Channels(nn.Module):
    """Without weights: what it is stands in its code."""

    def forward(self, images):
        return images


class Reversed(Channels):
    def forward(self, images):
        return images.flip(1)


def test_models_without_weights_are_told_apart_and_wrappers_change_nothing():
    digests = [digest(make()) for make in (Channels, Reversed, LabEmbedder)]
    assert len(set(digests)) == 3
    assert digest(CheckedEmbedder(Channels())) == digests[0]
    assert known_digest(digests[0]) == digests[0]
    # As results and centroids of earlier versions have it, of all such models.
    nothing = hashlib.sha256().hexdigest()
    assert nothing not in digests
    assert known_digest(nothing) is known_digest(None) is known_digest("") is None


def test_weights_alone_are_in_the_digest_of_what_has_any():
    layer = nn.Conv2d(3, 2, 1)
    assert digest(layer) == digest_tensors(layer.state_dict())


def test_scripts_whose_weights_are_constants_are_told_apart():
    def frozen(seed):
        torch.manual_seed(seed)
        return torch.jit.freeze(torch.jit.script(nn.Conv2d(3, 4, 4, stride=4).eval()))

    assert digest(frozen(0)) == digest(frozen(0)) != digest(frozen(1))


def test_what_is_packed_is_digested():
    def packed(seed):
        torch.manual_seed(seed)
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(64, 64)), {nn.Linear})

    assert digest(packed(0)) == digest(packed(0)) != digest(packed(1))

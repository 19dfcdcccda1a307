from __future__ import annotations

import torch
from torch import nn

from vice.evaluation.embedding_cache import EmbeddingCache


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        return images[:, :2, ::4, ::4] * 3


def test_gives_what_the_model_gives_and_computes_each_image_once():
    model, images = Counting(), torch.randn(5, 3, 12, 8)
    cache = EmbeddingCache(model, 10**6)
    for order in ([0, 1, 2], [2, 0, 3], [1, 1, 4, 4], [4, 3, 2, 1]):
        assert torch.equal(cache(images[order]), images[order][:, :2, ::4, ::4] * 3)
    assert model.batches == [3, 1, 1]


def test_a_changed_image_is_another_image():
    model, image = Counting(), torch.randn(1, 3, 12, 8)
    cache = EmbeddingCache(model, 10**6)
    cache(image)
    changed = image.clone()
    changed[0, 0, 0, 0] += 1e-6 + image[0, 0, 0, 0].abs()
    for other in (changed, image.flip(3), image.reshape(1, 3, 8, 12)):
        assert torch.equal(cache(other), other[:, :2, ::4, ::4] * 3)
    assert sum(model.batches) == 4


def test_the_budget_is_kept():
    model, images = Counting(), torch.randn(6, 3, 12, 8)
    each = 2 * 3 * 2 * 4
    cache = EmbeddingCache(model, 2 * each + 1)
    for _ in range(2):
        cache(images)
    assert cache.used_bytes == 2 * each
    assert model.batches == [6, 4]

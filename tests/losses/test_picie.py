"""PiCIE's loss against numbers of the original functions, and against a loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.oracles import wave
from vice.labels import IGNORE
from vice.losses.picie import PiCIELoss, automatic_shares, cross_entropy_sum, weight_sum
from vice.minibatch_kmeans import assign

#: Geometry that leaves the second view as it is, in maps of 2 x 2.
SAME = (torch.tensor([[0, 0, 2], [0, 0, 2]]), torch.tensor([False, False]))


def given() -> tuple[torch.Tensor, ...]:
    one, two = (
        torch.from_numpy(wave((2, 3, 2, 2), *numbers)).requires_grad_()
        for numbers in ((1.3, 0.2), (0.9, 1.1))
    )
    centroids = np.stack([0.8 * wave((4, 3), 2.1, 0.5), 0.9 * wave((4, 3), 1.7, 0.9)])
    centroids[0, 0] /= 2
    return one, two, torch.from_numpy(centroids)


def test_labels_weights_loss_and_gradients_are_the_originals():
    one, two, centroids = given()
    units = [F.normalize(each.detach(), dim=1) for each in (one, two)]
    labels = torch.stack([assign(c, f)[0] for c, f in zip(centroids, units, strict=True)], dim=1)
    assert labels[:, 0].flatten().tolist() == [0, 3, 0, 0, 0, 0, 0, 3]
    assert labels[:, 1].flatten().tolist() == [3, 3, 0, 1, 2, 3, 3, 3]
    by_product = torch.einsum("kd,bdhw->bkhw", centroids[0], units[0]).argmax(1)
    assert int((by_product != labels[:, 0]).sum()) == 2
    weights = torch.stack([torch.bincount(labels[:, v].flatten(), minlength=4) for v in (0, 1)])
    weights = weights.double() / 8
    assert weights.tolist() == [[0.75, 0, 0, 0.25], [0.125, 0.125, 0.125, 0.625]]
    loss = PiCIELoss([4])
    value = loss(
        torch.cat([one, two]), centroids, torch.zeros(2, 4), weights, torch.zeros(0), *SAME,
        labels[:, None].to(torch.uint8),
    )  # fmt: skip
    value.backward()
    assert value.item() == pytest.approx(1.25662272, abs=5e-9)
    assert loss.health["within"] == pytest.approx(1.07430167, abs=5e-9)
    assert loss.health["cross"] == pytest.approx(1.43894376, abs=5e-9)
    assert one.grad.norm().item() == pytest.approx(0.09173222, abs=5e-9)
    assert two.grad.norm().item() == pytest.approx(0.06757703, abs=5e-9)


def random_batch(images: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (images, 2, 2, 6, 6), generator=generator)
    labels[:, :, :, 0, :2] = IGNORE
    weights = torch.rand(2, 8, generator=generator)
    return {
        "embeddings": torch.randn(2 * images, 5, 6, 6, generator=generator),
        "classifiers": torch.randn(2, 8, 5, generator=generator),
        "biases": torch.randn(2, 8, generator=generator),
        "weights": weights,
        "epoch": torch.tensor([0.25]),
        "boxes": torch.tensor([[0, 1, 4], [2, 0, 3], [1, 1, 5], [0, 0, 6]])[:images],
        "flips": torch.tensor([True, False, True, False])[:images],
        "labels": labels.to(torch.uint8),
    }


def by_hand(batch: dict[str, torch.Tensor], clusters: list[int], shares: list[float]) -> float:
    """The formula, pixel by pixel."""
    one, two = batch["embeddings"].double().chunk(2)
    crops = []
    for image, (row, column, side) in enumerate(batch["boxes"].tolist()):
        cut = two[image : image + 1, :, row : row + side, column : column + side]
        cut = F.interpolate(cut, (6, 6), mode="bilinear", align_corners=False)
        crops.append(cut.flip(3) if batch["flips"][image] else cut)
    vectors = [F.normalize(each, dim=1).numpy() for each in (one, torch.cat(crops))]
    total, start = 0.0, 0
    for s, (count, share) in enumerate(zip(clusters, shares, strict=True)):
        names = slice(start, start + count)
        start += count
        for v in (0, 1):
            matrix, bias = (batch[x][v, names].double().numpy() for x in ("classifiers", "biases"))
            weights = batch["weights"][v, names].double().numpy()
            for f in vectors:
                above = below = 0.0
                for i, y, x in np.ndindex(len(f), 6, 6):
                    label = int(batch["labels"][i, s, v, y, x])
                    if label != IGNORE:
                        scores = matrix @ f[i, :, y, x] + bias
                        above += weights[label] * (np.log(np.exp(scores).sum()) - scores[label])
                        below += weights[label]
                total += share * above / below / 4
    return total


def test_crops_ignored_pixels_and_two_label_sets_are_the_loop():
    batch, shares = random_batch(), automatic_shares([3, 5])
    value = PiCIELoss([3, 5])(**batch)
    assert value.item() == pytest.approx(by_hand(batch, [3, 5], shares), rel=1e-5)
    half = PiCIELoss([3, 5], distance=True)(**batch)
    assert 0 < half.item() != pytest.approx(value.item())


def test_pixels_in_parts_are_pixels_at_once():
    batch = random_batch()
    vectors, labels = batch["embeddings"][:4].requires_grad_(), batch["labels"][:, 0, 0].long()
    matrix, bias = batch["classifiers"][0].requires_grad_(), batch["biases"][0]
    gradients = []
    for chunk in (1, 80, 10**6):
        value = cross_entropy_sum(vectors, matrix, labels, batch["weights"][0], bias, chunk=chunk)
        gradients.append(torch.autograd.grad(value, (vectors, matrix)))
    for one, two in zip(*gradients[:2], strict=True):
        torch.testing.assert_close(one, two)
    expected = F.cross_entropy(
        torch.einsum("kd,bdhw->bkhw", matrix, vectors) + bias[:, None, None],
        labels, batch["weights"][0], ignore_index=IGNORE, reduction="sum",
    )  # fmt: skip
    torch.testing.assert_close(value, expected)
    whole = F.cross_entropy(
        torch.zeros(4, 8, 6, 6), labels, batch["weights"][0], ignore_index=IGNORE
    )
    mean = value.new_tensor(np.log(8))
    torch.testing.assert_close(whole, mean)
    total = weight_sum(labels, batch["weights"][0])
    kept = labels[labels != IGNORE]
    torch.testing.assert_close(total, batch["weights"][0][kept].sum())

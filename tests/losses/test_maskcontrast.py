"""MaskContrast's loss against numbers of the original functions, and against a loop in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.oracles import unit, upsample, wave
from tests.helpers.processes import run_processes
from vice.losses.key_queue import KeyQueue
from vice.losses.maskcontrast import MaskContrastLoss, object_prototypes
from vice.losses.objects import Objects

QUERY = [["011", "010", "000"], ["000", "110", "111"]]
KEY = [["110", "100", "000"], ["000", "011", "011"]]


def masks(rows: list[list[str]]) -> torch.Tensor:
    return torch.tensor([[[int(each) for each in row] for row in image] for image in rows]).byte()


def tensor(shape: tuple[int, ...], factor: float, shift: float) -> torch.Tensor:
    return torch.from_numpy(wave(shape, factor, shift))


def loss_of(queue: torch.Tensor, **options: object) -> MaskContrastLoss:
    """A loss whose queue holds given vectors (K, D)."""
    loss = MaskContrastLoss(*queue.shape, **options).double()
    loss.queue.vectors.copy_(queue)
    return loss


def test_prototypes_loss_and_gradient_are_the_originals():
    queries = tensor((2, 3, 3, 3), 0.9, 0.4).requires_grad_()
    logits = (2 * tensor((2, 1, 3, 3), 1.4, 0.6)).requires_grad_()
    keys, objects = tensor((2, 3, 3, 3), 0.7, 1.3), Objects.of(masks(QUERY), masks(KEY))
    expected = [[0.61292967, 0.57664037, 0.54018803], [-0.78987067, -0.54018649, -0.29034958]]
    found = object_prototypes(keys, objects)
    np.testing.assert_allclose(found, expected, atol=5e-9)
    loss = loss_of(F.normalize(tensor((3, 4), 1.9, 0.1), dim=0).T)
    value = loss.compare(queries, logits, keys, objects)
    (gradient,) = torch.autograd.grad(value, queries)
    assert loss.health["contrastive"] == pytest.approx(2.38120709, abs=5e-9)
    assert loss.health["saliency"] == pytest.approx(0.53949033, abs=5e-9)
    assert loss.health["loss"] == pytest.approx(value.item()) == pytest.approx(2.92069742)
    assert gradient.norm().item() == pytest.approx(0.63038799, abs=5e-9)
    np.testing.assert_allclose(loss.queue.vectors[:2], expected, atol=5e-9)
    assert loss.health["queue_filled"] == 0.5 and loss.health["matched_share"] == 1


def random_batch(images: int = 4, most: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shown = torch.randint(0, most + 1, (2, images, 12, 9), generator=generator).byte()
    # Each image shows something in both views; some objects are in one view alone.
    shown[:, :, 0, 0] = 1
    shown[1, 0][shown[1, 0] == 2] = 0
    embeddings = torch.randn(2, images, 5, 4, 3, generator=generator)
    return {
        "queries": embeddings[0],
        "keys": embeddings[1],
        "logits": torch.randn(images, 1, 4, 3, generator=generator),
        "shown": shown,
        "queue": F.normalize(torch.randn(8, 5, generator=generator), dim=1),
    }


def by_hand(batch: dict[str, torch.Tensor], temperature: float) -> tuple[float, float]:
    """The formulas, pixel by pixel: contrastive and saliency."""
    queries, keys, logits, shown, queue = (value.double().numpy() for value in batch.values())
    large = [[upsample(each, 12, 9) for each in views] for views in (queries, keys, logits)]
    prototypes = {}
    for image, view in enumerate(large[1]):
        for number in sorted(set(shown[1, image].ravel()) - {0}):
            places = np.argwhere(shown[1, image] == number)
            prototypes[image, number] = unit(sum(unit(view[:, y, x]) for y, x in places))
    columns = np.array([*prototypes.values(), *queue])
    names = list(prototypes)
    pixels = [
        (names.index((i, shown[0, i, y, x])), unit(large[0][i][:, y, x]))
        for i, y, x in np.ndindex(shown[0].shape)
        if (i, shown[0, i, y, x]) in prototypes
    ]
    share = {n: sum(target == n for target, _ in pixels) / len(pixels) for n in range(len(names))}
    above = below = 0.0
    for target, vector in pixels:
        scores = columns @ vector / temperature
        weight = 1 / math.log(1.02 + share[target])
        above += weight * (math.log(np.exp(scores).sum()) - scores[target])
        below += weight
    background, total = float((shown[0] == 0).mean()), 0.0
    for i, y, x in np.ndindex(shown[0].shape):
        logit = float(large[2][i][0, y, x])
        salient = shown[0, i, y, x] > 0
        total += (background if salient else 1 - background) * math.log(
            1 + math.exp(-logit if salient else logit)
        )
    return above / below, total / shown[0].size


@pytest.mark.parametrize("most", [1, 3])
def test_upsampled_maps_and_several_objects_are_the_loop(most):
    batch = random_batch(most=most)
    expected = by_hand(batch, 0.3)
    loss = MaskContrastLoss(8, 5, temperature=0.3, most=most)
    loss.queue.vectors.copy_(batch["queue"])
    objects = Objects.of(*batch["shown"], most=most)
    loss.compare(batch["queries"], batch["logits"], batch["keys"], objects)
    found = loss.health["contrastive"], loss.health["saliency"]
    assert found == pytest.approx(expected, rel=1e-5)
    assert (loss.health["matched_share"] < 1) == (most > 1)


def test_pixels_in_parts_are_pixels_at_once():
    batch, found = random_batch(most=2), []
    for chunk in (7, 10**6):
        queries = batch["queries"].double().requires_grad_()
        loss = loss_of(batch["queue"].double(), most=2, chunk=chunk)
        objects = Objects.of(*batch["shown"], most=2)
        value = loss.compare(queries, batch["logits"].double(), batch["keys"], objects)
        found.append((value.detach(), *torch.autograd.grad(value, queries)))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_views_without_a_common_object_have_a_loss_without_nan():
    shown = torch.zeros(2, 2, 8, 8).byte()
    shown[0, :, 0], shown[1, :, 1] = 1, 2
    queries = torch.randn(2, 5, 2, 2).requires_grad_()
    loss = MaskContrastLoss(4, 5, most=2)
    loss.queue.scatter(0)
    loss.compare(queries, torch.randn(2, 1, 2, 2), torch.randn(2, 5, 2, 2),
                 Objects.of(*shown, most=2)).backward()  # fmt: skip
    assert loss.health["contrastive"] == 0 and not queries.grad.any()
    assert loss.health["matched_share"] == 0


#: Prototypes of the batch, and most objects of an image.
CASES = (("global", 1), ("global", 3), ("local", 1))


def _share(rank: int, ranks: int) -> list[dict[str, object]]:
    """Three steps of one rank's half of each batch."""
    found = []
    for in_batch, most in CASES:
        loss = MaskContrastLoss(12, 5, most=most, in_batch=in_batch)
        loss.queue.scatter(3)
        gradients = []
        for step in range(3):
            batch = random_batch(most=most, seed=step)
            own = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
            queries = batch["queries"][own].requires_grad_()
            objects = Objects.of(*batch["shown"][:, own], most=most)
            loss.compare(queries, batch["logits"][own], batch["keys"][own], objects).backward()
            gradients.append((queries.grad / ranks).numpy())
        queue = loss.queue.vectors.numpy()
        found.append({"health": loss.health, "gradients": np.stack(gradients), "queue": queue})
    return found


def test_a_batch_over_two_ranks_is_the_same_batch_if_prototypes_are_of_all():
    whole, parts = _share(0, 1), run_processes(_share, 2)
    for case, alone, one, two in zip(CASES, whole, *parts, strict=True):
        np.testing.assert_array_equal(one["queue"], two["queue"])
        np.testing.assert_allclose(one["queue"], alone["queue"], atol=1e-6)
        if case[0] == "local":
            # The queue is of all ranks, but there are fewer prototypes to tell a pixel from.
            assert one["health"]["contrastive"] < alone["health"]["contrastive"]
            continue
        assert one["health"] == two["health"] == pytest.approx(alone["health"], abs=1e-6)
        joined = np.concatenate([one["gradients"], two["gradients"]], axis=1)
        np.testing.assert_allclose(joined, alone["gradients"], atol=1e-7)


def test_a_queue_is_a_ring_that_leaves_out_absent_keys():
    queue, expected = KeyQueue(5, 1), [None] * 5
    queue.scatter(0)
    random, at = queue.vectors.flatten().tolist(), 0
    for count, gone in ((3, ()), (4, (1,)), (7, ()), (2, (0, 1)), (1, ())):
        keys = torch.arange(1.0, count + 1)[:, None] + 10 * at
        queue.push(keys, torch.tensor([each not in gone for each in range(count)]))
        for each in range(count):
            if each not in gone:
                expected[at % 5] = float(keys[each])
                at += 1
        filled = [r if e is None else e for r, e in zip(random, expected, strict=True)]
        assert queue.vectors.flatten().tolist() == filled and int(queue.pushed) == at

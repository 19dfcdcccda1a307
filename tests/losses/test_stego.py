"""STEGO's loss against numbers of the original functions, and against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.oracles import unit, wave
from vice.losses.stego import (
    PairNumbers,
    Places,
    StegoLoss,
    centered,
    correspondence_loss,
    cosines,
    derangement,
    sample_points,
)
from vice.methods.code_head import CodeHead

#: The released COCO model's w and b: itself, neighbor, random.
COCO = ((0.1, 0.12), (1.0, 0.2), (0.1538476246415498, 1.0))


def given() -> list[torch.Tensor]:
    """Features f, g and codes s, t at 3 x 3 points."""
    waves = (((2, 5, 3, 3), 0.37, 0.2), ((2, 5, 3, 3), 0.41, 0.9),
             ((2, 4, 3, 3), 0.83, 0.3), ((2, 4, 3, 3), 0.77, 0.8))  # fmt: skip
    f, g, s, t = (torch.from_numpy(wave(*each)).flatten(2) for each in waves)
    return [f, g, s.requires_grad_(), t.requires_grad_()]


def of_pair(f, g, s, t, b, pointwise=True, **how):
    features = cosines(f, g)
    return correspondence_loss(
        centered(features) if pointwise else features, cosines(s, t), b, **how
    )


def test_losses_and_gradients_are_the_originals():
    f, g, s, t = given()
    parts = (
        of_pair(f, f, s, s, 0.12),
        of_pair(f, g, s, t, 0.2),
        of_pair(f, g.flip(0), s, t.flip(0), 1.0),
    )
    expected = (-0.13083828, 0.05194369, 0.30135070)
    assert [float(each.detach()) for each in parts] == pytest.approx(expected, abs=6e-9)
    total = sum(weight * part for (weight, _), part in zip(COCO, parts, strict=True))
    assert float(total.detach()) == pytest.approx(0.08522195, abs=6e-9)
    total.backward()
    assert float(s.grad.norm()) == pytest.approx(0.02364940, abs=6e-9)
    assert float(t.grad.norm()) == pytest.approx(0.02264592, abs=6e-9)
    whole = of_pair(f, g, s, t, 0.2, pointwise=False)
    assert float(whole.detach()) == pytest.approx(0.05250137, abs=6e-9)
    unclamped = of_pair(f, g, s, t, 0.2, zero_clamp=False)
    assert float(unclamped.detach()) == pytest.approx(-0.06111505, abs=6e-9)


def loop(f, g, s, t, b, *, pointwise, clamp):
    """The formula, a pair of points at a time."""
    images, points = len(f), f.shape[2]
    features = np.array([[[unit(f[n, :, p]) @ unit(g[n, :, q]) for q in range(points)]
                          for p in range(points)] for n in range(images)])  # fmt: skip
    mean, total = features.mean(), 0.0
    for n in range(images):
        for p in range(points):
            for q in range(points):
                wanted = features[n, p, q]
                if pointwise:
                    wanted = wanted - features[n, p].mean() + mean
                code = float(unit(s[n, :, p]) @ unit(t[n, :, q]))
                total -= min(max(code, clamp[0]), clamp[1]) * (wanted - b)
    return total / (images * points**2)


@pytest.mark.parametrize("pointwise", [True, False])
@pytest.mark.parametrize(
    ("how", "clamp"),
    [
        ({}, (0, 9)),
        ({"zero_clamp": False}, (-9, 9)),
        ({"stabilize": True}, (0, 0.8)),
        ({"zero_clamp": False, "stabilize": True}, (-9, 0.8)),
    ],
)
def test_each_variant_is_the_formulas_loop(pointwise, how, clamp):
    rng = np.random.default_rng(3)
    f, g = rng.normal(size=(2, 3, 4, 6))
    s, t = rng.normal(size=(2, 3, 2, 6))
    tensors = [torch.from_numpy(each) for each in (f, g, s, t)]
    found = float(of_pair(*tensors, 0.17, pointwise=pointwise, **how))
    assert found == pytest.approx(
        loop(f, g, s, t, 0.17, pointwise=pointwise, clamp=clamp), abs=1e-14
    )


def test_points_are_sampled_as_the_originals():
    points = torch.tensor([[[-1, -1], [0.5, -0.25], [1, 1], [0.1, 0.9]]], dtype=torch.float64)
    found = sample_points(torch.from_numpy(wave((1, 1, 4, 4), 0.5, 0)), points)
    expected = [0, -0.09607111, 0.93799998, 0.28216784]
    assert found[0, 0].tolist() == pytest.approx(expected, abs=6e-9)


def test_nobody_is_compared_with_itself():
    def drawn(*places):
        order = torch.empty(len(places))
        order[list(places)] = torch.arange(len(places), dtype=torch.float)
        return derangement(order).tolist()

    # The original's [2, 1, 0, 3]: fixed points move on, whoever is there already.
    assert drawn(2, 1, 0, 3) == [2, 2, 0, 0]
    assert drawn(1, 2, 0) == [1, 2, 0]
    counts = np.zeros((5, 5))
    for seed in range(300):
        partners = derangement(torch.rand(5, generator=torch.Generator().manual_seed(seed)))
        counts[np.arange(5), partners] += 1
    assert not counts.diagonal().any() and (counts[~np.eye(5, dtype=bool)] > 30).all()


def batch(draws: int = 3) -> tuple[StegoLoss, list[torch.Tensor], Places]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    codes, features = normal(6, 4, 5, 6), normal(6, 7, 5, 6)
    scores, logits = normal(3, 5, 5, 6), normal(3, 6, 5, 6)
    points = torch.rand(2, 3, 9, 2, generator=generator) * 2 - 1
    order = torch.rand(3, draws, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 8, (3, 10, 12), generator=generator).byte()
    labels[0, :4] = 255
    loss = StegoLoss(*map(PairNumbers._make, COCO))
    return loss, [codes, features, scores, logits], Places(*points, order, labels)


def test_the_whole_loss_is_made_of_its_parts():
    loss, (codes, features, scores, logits), places = batch()
    found = loss(codes, features, scores, logits, places)
    f, s = sample_points(features[:3], places.own), sample_points(codes[:3], places.own)
    g, t = sample_points(features[3:], places.other), sample_points(codes[3:], places.other)
    parts = {"self": of_pair(f, f, s, s, 0.12), "neighbor": of_pair(f, g, s, t, 0.2)}
    drawn = []
    for draw in range(3):
        partners = derangement(places.order[:, draw])
        far = [sample_points(each[partners], places.other) for each in (features[:3], codes[:3])]
        drawn.append(of_pair(f, far[0], s, far[1], 1.0))
    parts["random"] = sum(drawn) / 3
    total = sum(w * parts[name] for (w, _), name in zip(COCO, parts, strict=True))
    rows = [
        -F.log_softmax(each, 0)[label].item()
        for each, label in zip(
            F.interpolate(logits, (10, 12), mode="bilinear").permute(0, 2, 3, 1).reshape(-1, 6),
            places.labels.flatten().tolist(),
            strict=True,
        )
        if label < 6
    ]
    linear, probe = float(np.mean(rows)), -float(scores.amax(1).mean())
    assert float(found) == pytest.approx(float(total) + linear + probe, abs=1e-12)
    health = loss.health
    assert health["correspondence"] == pytest.approx(float(total))
    assert (health["probe"], health["linear"]) == pytest.approx((probe, linear))
    for name, part in parts.items():
        assert health[f"loss_{name}"] == pytest.approx(float(part))
    assert health["feature_neighbor"] == pytest.approx(float(cosines(f, g).mean()))
    assert health["above_neighbor"] == pytest.approx(
        float((centered(cosines(f, g)) > 0.2).double().mean())
    )
    share = np.bincount(scores.argmax(1).flatten().numpy(), minlength=5) / scores[:, 0].numel()
    assert health["largest_cluster"] == pytest.approx(share.max())
    assert health["clusters_in_use"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_gradients_are_the_differences():
    loss, (codes, features, scores, logits), places = batch(draws=2)
    inputs = [each.requires_grad_() for each in (codes, scores, logits)]
    assert torch.autograd.gradcheck(
        lambda c, s, w: loss(c, features, s, w, places), inputs, atol=1e-6, fast_mode=True
    )
    # Features are the backbone's: nothing flows into them.
    features.requires_grad_()
    loss(codes, features, scores, logits, places).backward()
    assert features.grad is None


def test_the_cluster_probe_is_the_originals_and_does_not_reach_the_codes():
    head = CodeHead(4, 3, 0).double()
    with torch.no_grad():
        head.probe.weight.copy_(torch.from_numpy(wave((3, 4), 1.3, 0.5)))
    codes = torch.from_numpy(wave((2, 4, 3, 3), 0.83, 0.3))
    maps = torch.cat([codes, codes], 1).repeat(2, 1, 1, 1).requires_grad_()
    found, features, scores, logits = head(maps)
    assert torch.equal(found, maps[:, :4]) and torch.equal(features, maps[:, 4:])
    assert logits.shape == (2, 0, 3, 3)
    assert -float(scores.detach().amax(1).mean()) == pytest.approx(-0.71041643, abs=6e-9)
    shares = (2 * scores[0, :, 0, 0]).softmax(0).tolist()
    assert shares == pytest.approx([0.62310180, 0.33310210, 0.04379610], abs=6e-9)
    scores.sum().backward()
    assert maps.grad is None and head.probe.weight.grad.abs().sum() > 0
    # What is exported has the same direction.
    head.keep_clusters()
    assert torch.equal(head.prototypes.weight, F.normalize(head.probe.weight, dim=1))


def test_one_adam_with_groups_is_an_adam_for_each():
    def trained(optimizers):
        torch.manual_seed(0)
        projection, head = torch.nn.Conv2d(7, 4, 1), CodeHead(4, 5, 6)
        made = optimizers([projection, head.probe, head.linear])
        loss, (_, features, _, _), places = batch()
        for _ in range(5):
            for each in made:
                each.zero_grad()
            maps = torch.cat([projection(features.float()), features.float()], 1)
            loss(*head(maps), places).backward()
            for each in made:
                each.step()
        return [*projection.parameters(), *head.parameters()]

    rates, adam = (5e-4, 5e-3, 5e-3), torch.optim.Adam

    def groups(modules):
        pairs = zip(modules, rates, strict=True)
        return [{"params": list(each.parameters()), "lr": rate} for each, rate in pairs]

    one = trained(lambda modules: [adam(groups(modules))])
    three = trained(lambda modules: [adam([group]) for group in groups(modules)])
    assert len(one) == 5 and all(map(torch.equal, one, three))

"""Label-free scores of real checkpoints, against scikit-learn, a loop, and known extremes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from tests.helpers.untrained import DIM, SETTINGS, K, draw_images, make_run
from vice.errors import UserError
from vice.evaluation.checkpoint_selection import choose_checkpoint, score_checkpoint
from vice.evaluation.label_free import HeldOutViews
from vice.losses import DenseSwAVLoss
from vice.models import Concepts, seeded_embedder
from vice.models.checkpoint import save_run
from vice.predictor import load
from vice.views.photometric import Photometric


@pytest.fixture
def images(tmp_path):
    return draw_images(tmp_path)


def write_epoch(folder, name, source):
    """A state of training as VISSL lays it out, with the weights of a run folder."""
    checkpoint = load(source).checkpoint
    trunk = {f"embedder.{k}": v for k, v in checkpoint.embedder.state_dict().items()}
    heads = {"0.prototypes.weight": checkpoint.prototypes.weight}
    model = {"trunk": trunk, "heads": heads}
    torch.save({"classy_state_dict": {"base_model": {"model": model}}}, folder / name)
    card = {"embedder": checkpoint.embedder.config, "meta": {}}
    (folder / "architecture.json").write_text(json.dumps(card))


def loss_of_training(checkpoint, images, seed):
    """The training's own loss of all pairs as one batch, without a queue."""
    photometric, maps, regions = Photometric(**SETTINGS["PHOTOMETRIC"]), [[], []], [[], []]
    for pair in HeldOutViews(images, SETTINGS, seed).pairs:
        pixels = torch.from_numpy(pair.views.images).permute(0, 3, 1, 2)
        batch = photometric(pixels, pair.colors, torch.from_numpy(pair.views.noise))
        embeddings = checkpoint.embedder(batch)
        for view in range(2):
            maps[view].append(embeddings[view])
            regions[view].append(torch.from_numpy(pair.views.regions[view]))
    whole = torch.stack([*maps[0], *maps[1]]), torch.stack([*regions[0], *regions[1]])
    return float(DenseSwAVLoss(2, K, DIM)(whole[0], checkpoint.prototypes.weight, whole[1]))


def by_hand(checkpoint, images, seed):
    """Unit region vectors (2, I, D) by a loop over the regions, in float64."""
    found = [[], []]
    photometric = Photometric(**SETTINGS["PHOTOMETRIC"])
    for pair in HeldOutViews(images, SETTINGS, seed).pairs:
        pixels = torch.from_numpy(pair.views.images).permute(0, 3, 1, 2)
        batch = photometric(pixels, pair.colors, torch.from_numpy(pair.views.noise))
        dense = F.interpolate(checkpoint.embedder(batch).double(), size=(32, 32), mode="bilinear")
        dense = F.normalize(dense, dim=1)
        for region in sorted(set(pair.views.regions[0].ravel()) - {-1}):
            for view in range(2):
                inside = torch.from_numpy(pair.views.regions[view] == region)
                found[view].append(F.normalize(dense[view][:, inside].mean(1), dim=0))
    return torch.stack([torch.stack(part) for part in found])


def test_scores_are_those_of_a_loop_and_scikit_learn(tmp_path, images):
    metrics = pytest.importorskip("sklearn.metrics")
    checkpoint = load(make_run(tmp_path / "run")).checkpoint
    scores = score_checkpoint(checkpoint, images, SETTINGS, seed=3)
    vectors = by_hand(checkpoint, images, 3)
    best = (vectors @ checkpoint.prototypes.weight.double().T).argmax(-1).numpy()
    shares = np.bincount(best[0]) / best.shape[1]
    entropy = -sum(share * math.log(share) for share in shares if share)
    assert scores.regions == best.shape[1] > 20
    assert scores.agreement == pytest.approx((best[0] == best[1]).mean())
    assert scores.cosine == pytest.approx(float((vectors[0] * vectors[1]).sum(-1).mean()), abs=1e-5)
    assert scores.perplexity == pytest.approx(math.exp(entropy))
    assert scores.mutual_information == pytest.approx(
        metrics.normalized_mutual_info_score(*best), abs=1e-9
    )
    assert 0 < scores.mutual_information < 1
    loss = loss_of_training(checkpoint, images, 3)
    assert scores.loss_over_lnk == pytest.approx(loss / math.log(K), rel=1e-5)


def test_a_collapsed_model_agrees_fully_and_scores_nothing(tmp_path, images):
    checkpoint = load(make_run(tmp_path / "run", collapsed=True)).checkpoint
    scores = score_checkpoint(checkpoint, images, SETTINGS)
    assert scores.agreement == 1 and scores.cosine == pytest.approx(1)
    assert scores.perplexity == pytest.approx(1)
    assert scores.mutual_information == 0


def test_the_choice_is_the_epoch_with_most_mutual_information(tmp_path, images):
    sound = make_run(tmp_path / "sound")
    dead = make_run(tmp_path / "dead", collapsed=True)
    write_epoch(dead, "model_phase0.torch", dead)
    write_epoch(dead, "model_phase1.torch", sound)
    write_epoch(dead, "model_final_checkpoint_phase2.torch", dead)
    write_epoch(dead, "model_iteration5.torch", sound)
    choice = choose_checkpoint(dead, images, 1)
    assert choice.path == dead / "model_phase1.torch" and choice.epoch == 2 and not choice.last
    assert list(choice.scores) == [
        "model_phase0.torch",
        "model_phase1.torch",
        "model_final_checkpoint_phase2.torch",
    ]
    assert [s.mutual_information > 0 for s in choice.scores.values()] == [False, True, False]
    assert json.loads(json.dumps(choice.to_dict()))["epoch"] == 2
    # Of equals, the later one.
    write_epoch(dead, "model_phase1.torch", dead)
    choice = choose_checkpoint(dead, images, 1)
    assert choice.last and choice.epoch == 3 and choice.path == dead / "vice.safetensors"


def test_a_run_without_epochs_and_what_is_no_run(tmp_path, images):
    choice = choose_checkpoint(make_run(tmp_path / "run"), images)
    assert choice.last and list(choice.scores) == ["vice.safetensors"]
    with pytest.raises(UserError, match="train_config.yaml"):
        choose_checkpoint(tmp_path, images)
    bare = tmp_path / "bare"
    save_run(bare, seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=DIM, stages=1))
    (bare / "train_config.yaml").write_text(yaml.safe_dump({"VICE": SETTINGS}))
    with pytest.raises(UserError, match="holds no prototypes"):
        choose_checkpoint(bare, images)
    with pytest.raises(UserError, match="no image"):
        choose_checkpoint(tmp_path / "run", [])


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path, images, caplog):
    checkpoint = load(make_run(tmp_path / "run")).checkpoint
    scores = score_checkpoint(checkpoint, images, SETTINGS)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with caplog.at_level("WARNING"):
        assert score_checkpoint(checkpoint, [*images, broken], SETTINGS) == scores
    assert "broken.png" in caplog.text


def test_a_model_in_training_can_go_on_after_it_was_measured(images):
    embedder = seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=DIM, stages=1).eval()
    prototypes = torch.nn.functional.normalize(torch.randn(K, DIM), dim=1).requires_grad_()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    scores = HeldOutViews(images, SETTINGS).measure(embedder, Concepts(prototypes))
    assert scores.regions > 20
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())
    embedder(torch.rand(1, 3, 32, 32)).sum().backward()
    assert next(embedder.parameters()).grad is not None and prototypes.grad is None

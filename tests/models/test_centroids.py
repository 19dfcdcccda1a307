from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vice.clustering import fit_kmeans
from vice.errors import UserError
from vice.models.centroids import Centroids
from vice.models.concepts import argmax_upsampled
from vice.runtime.provenance import digest

faiss = pytest.importorskip("faiss")


def embeddings(seed=0, batch=2, dim=16, h=9, w=7):
    return torch.randn(batch, dim, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spherical", [True, False])
def test_argmax_of_the_convolution_is_the_answer_of_faiss(spherical):
    vectors = torch.randn(2000, 16, generator=torch.Generator().manual_seed(1))
    centroids = fit_kmeans(vectors, 30, spherical=spherical, iterations=5)
    images = embeddings()
    flat = images.permute(0, 2, 3, 1).reshape(-1, 16).contiguous().numpy()
    index = faiss.IndexFlatIP(16) if spherical else faiss.IndexFlatL2(16)
    index.add(centroids.vectors.numpy())
    _, expected = index.search(flat, 1)
    found = centroids.concepts().nearest_map(images, images.shape[2:])
    np.testing.assert_array_equal(found.flatten().numpy(), expected[:, 0])


@pytest.mark.parametrize("spherical", [True, False])
def test_upsampling_scores_equals_scoring_upsampled_embeddings(spherical):
    c = torch.randn(11, 16, generator=torch.Generator().manual_seed(2))
    centroids = Centroids(F.normalize(c) if spherical else c, spherical)
    images = embeddings().double()
    fine = F.interpolate(images, (33, 26), mode="bilinear")
    if spherical:
        fine = F.normalize(fine)
    points = fine.permute(0, 2, 3, 1).reshape(-1, 16)
    expected = torch.cdist(points, centroids.vectors.double()).argmin(1).view(2, 33, 26)
    assert torch.equal(centroids.concepts().nearest_map(images, (33, 26)), expected)


@pytest.mark.parametrize("size", [(9, 7), (33, 26), (36, 28), (5, 30), (1, 1)])
@pytest.mark.parametrize("max_bytes", [1, 2000, 2**27])
def test_bands_of_rows_equal_interpolate(size, max_bytes):
    scores = embeddings(3).double()
    expected = F.interpolate(scores, size, mode="bilinear", align_corners=False).argmax(1)
    assert torch.equal(argmax_upsampled(scores, size, max_bytes=max_bytes), expected)


def test_save_and_load_keep_everything(tmp_path):
    saved = Centroids(torch.randn(5, 3), False, [3.5, 2.25], 17)
    saved.save(tmp_path / "c.safetensors")
    loaded = Centroids.load(tmp_path / "c.safetensors")
    assert torch.equal(loaded.vectors, saved.vectors)
    assert (loaded.spherical, loaded.objective, loaded.seed) == (False, [3.5, 2.25], 17)
    assert len(loaded) == 5


def test_they_know_the_model_whose_embeddings_were_clustered(tmp_path):
    model, other = (torch.nn.Linear(3, 3) for _ in range(2))
    mine = digest(model)
    known = Centroids(torch.ones(2, 3), True).of_model(mine)
    known.save(tmp_path / "c.safetensors")
    again = Centroids.load(tmp_path / "c.safetensors")
    assert again.weights == mine
    again.require_model(mine, "it")
    with pytest.raises(UserError, match="of another model, and mean nothing in it: give that"):
        again.require_model(digest(other), "it")
    # Files of earlier versions do not say.
    Centroids(torch.ones(2, 3), True).save(tmp_path / "old.safetensors")
    assert b"weights" not in (tmp_path / "old.safetensors").read_bytes()
    Centroids.load(tmp_path / "old.safetensors").require_model(mine, "it")


def test_wrong_files_are_named(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(UserError, match=r"missing.safetensors: no such"):
        Centroids.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="holds no weights: it is text"):
        Centroids.load(tmp_path / "text.safetensors")
    save_file({"vectors": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a centroid file"):
        Centroids.load(tmp_path / "other.safetensors")


def test_centroids_of_another_model_are_refused():
    with pytest.raises(UserError, match=r"16 dimensions .* 3"):
        Centroids(torch.ones(2, 3), True).concepts().scores(embeddings())


def test_centroids_that_keep_their_length_are_compared_with_unit_vectors(tmp_path):
    vectors = torch.tensor([[0.2, 0.0], [0.0, 0.9]])
    centroids = Centroids(vectors, spherical=False, unit_dot=True)
    centroids.save(tmp_path / "c.safetensors")
    again = Centroids.load(tmp_path / "c.safetensors")
    assert again.unit_dot and torch.equal(again.vectors, vectors)
    # The greatest product is neither with the nearest point nor with the nearest direction.
    pixel = torch.tensor([[2.0, 1.0]])
    scores = again.concepts().scores(pixel[..., None, None]).flatten()
    torch.testing.assert_close(scores, torch.tensor([0.2 * 2, 0.9]) / 5**0.5)
    nearest = [
        int(each.concepts().nearest(pixel / 5**0.5))
        for each in (again, Centroids(vectors, False), Centroids(torch.eye(2), True))
    ]
    assert nearest == [1, 0, 0]
    Centroids(vectors, spherical=True).save(tmp_path / "old.safetensors")
    assert b"unit_dot" not in (tmp_path / "old.safetensors").read_bytes()
    assert not Centroids.load(tmp_path / "old.safetensors").unit_dot

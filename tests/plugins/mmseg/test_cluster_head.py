from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from vice.errors import UserError
from vice.models.centroids import Centroids

from .helpers import TinyEmbedder

PREPROCESSOR = {"type": "mmseg.SegDataPreProcessor"}


@pytest.fixture
def files(tmp_path):
    generator = torch.Generator().manual_seed(0)
    found = []
    for k, spherical in ((5, True), (9, False)):
        vectors = torch.randn(k, 8, generator=generator)
        vectors = F.normalize(vectors) if spherical else vectors
        path = tmp_path / f"centroids_{k}.safetensors"
        Centroids(vectors, spherical).save(path)
        found.append(str(path))
    return found


def nearest(file, embedding, size):
    """The answer in float64, pixel by pixel of the upsampled embedding."""
    centroids = Centroids.load(file)
    fine = F.interpolate(embedding.double(), size, mode="bilinear", align_corners=False)[0]
    points = fine.flatten(1).T
    if centroids.spherical:
        points = F.normalize(points)
    return torch.cdist(points, centroids.vectors.double()).argmin(1).view(size)


def agreement(found, expected):
    return float((found == expected).float().mean())


def segmentor(files, **head):
    return MODELS.build(
        {
            "type": "ClusterSegmentor",
            "data_preprocessor": PREPROCESSOR,
            "backbone": {"type": "ViceBackbone", "embedder": TinyEmbedder()},
            "decode_head": [{"type": "ClusterHead", "centroids": f, **head} for f in files],
            "test_cfg": ConfigDict(mode="whole"),
        }
    ).eval()


def test_segmentor_finds_the_nearest_centroid_of_each_set(files):
    model, images = segmentor(files), torch.randn(2, 3, 33, 46)
    model.init_weights()
    samples = model.predict(images)
    for i, sample in enumerate(samples):
        embedding = model.extract_feat(images[i : i + 1])[0]
        clusters = sample.pred_clusters.data
        assert clusters.shape == (2, 33, 46) and clusters.dtype == torch.int64
        for found, file in zip(clusters, files, strict=True):
            assert agreement(found, nearest(file, embedding, (33, 46))) > 0.999
        assert torch.equal(sample.pred_sem_seg.data[0], clusters[0])


def test_plain_encoder_decoder_agrees_and_maps_to_classes(files, tmp_path):
    mapping = [2, 0, 0, 3, 2]
    (tmp_path / "m.json").write_text(json.dumps(mapping))
    images = torch.randn(1, 3, 33, 46)
    clusters = segmentor(files).predict(images)[0].pred_clusters.data[0]
    for given in (mapping, str(tmp_path / "m.json")):
        model = MODELS.build(
            {
                "type": "EncoderDecoder",
                "data_preprocessor": PREPROCESSOR,
                "backbone": {"type": "ViceBackbone", "embedder": TinyEmbedder()},
                "decode_head": {
                    "type": "ClusterHead",
                    "centroids": files[0],
                    "mapping": given,
                    "num_classes": 6,
                },
                "test_cfg": ConfigDict(mode="whole"),
            }
        ).eval()
        model.init_weights()
        sample = model.predict(images)[0]
        assert sample.seg_logits.data.shape[0] == 6
        assert agreement(sample.pred_sem_seg.data[0], torch.tensor(mapping)[clusters]) > 0.999


def test_mapped_segmentor_predicts_classes(files):
    model, images = segmentor(files[:1], mapping=[1, 1, 0, 2, 0]), torch.randn(1, 3, 20, 24)
    sample = model.predict(images)[0]
    expected = torch.tensor([1, 1, 0, 2, 0])[sample.pred_clusters.data[0]]
    assert torch.equal(sample.pred_sem_seg.data[0], expected)


def test_padding_flip_and_original_size_are_undone_as_encoder_decoder_does(files):
    model, images = segmentor(files[:1]), torch.randn(1, 3, 32, 40)
    meta = {"ori_shape": (55, 61), "padding_size": (0, 4, 0, 2), "flip": True,
            "flip_direction": "horizontal"}  # fmt: skip
    sample = SegDataSample(metainfo=meta)
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 55, 61))
    found = model.predict(images, [sample])[0].pred_clusters.data[0]
    scores = model.decode_head[0](model.extract_feat(images))
    scores = F.interpolate(scores, (32, 40), mode="bilinear", align_corners=False)
    reference = MODELS.build(
        {
            "type": "EncoderDecoder",
            "data_preprocessor": PREPROCESSOR,
            "backbone": {"type": "ViceBackbone", "embedder": TinyEmbedder()},
            "decode_head": {"type": "ClusterHead", "centroids": files[0]},
        }
    )
    expected = reference.postprocess_result(scores, [sample])[0].pred_sem_seg.data[0]
    assert agreement(found, expected) > 0.999


def test_the_head_is_frozen_and_not_trained(files):
    head = MODELS.build({"type": "ClusterHead", "centroids": files[0]})
    assert not any(p.requires_grad for p in head.parameters())
    with pytest.raises(UserError, match="not trained"):
        head.loss((torch.randn(1, 8, 4, 4),), [], {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mapping": [0, 1]}, "2 classes for 5 clusters"),
        ({"mapping": "nowhere.json"}, "no such mapping"),
        ({"centroids": "nowhere.safetensors"}, "no such centroid"),
    ],
)
def test_bad_input_is_named(files, options, message):
    with pytest.raises(UserError, match=message):
        MODELS.build({"type": "ClusterHead", "centroids": files[0], **options})


def test_centroids_of_another_model_are_refused(files):
    head = MODELS.build({"type": "ClusterHead", "centroids": files[0]})
    with pytest.raises(UserError, match="another model"):
        head((torch.randn(1, 3, 4, 4),))


def test_clusters_are_repeated_where_the_protocol_decides_before_upsampling(files):
    model = segmentor(files)
    model.upsample = "classes"
    images = torch.randn(1, 3, 40, 48)
    (sample,) = model.predict(images)
    scores = model.decode_head[1](model.extract_feat(images))
    coarse = scores.argmax(1)[0]
    expected = coarse.repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert torch.equal(sample.pred_clusters.data[1], expected)
    smooth = segmentor(files).predict(images)[0].pred_clusters.data[1]
    assert 0.5 < agreement(smooth, expected) < 1

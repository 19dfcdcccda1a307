from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from vice.errors import UserError
from vice.scoring import CountTable

metrics = pytest.importorskip("sklearn.metrics")


def maps(clusters, classes, seed=0, size=400, ignore=0.1):
    rng = np.random.default_rng(seed)
    pred, label = rng.integers(0, clusters, size), rng.integers(0, classes, size)
    label[rng.random(size) < ignore] = 255
    return pred, label


def table_of(pred, label, clusters, classes):
    table = CountTable(clusters, classes)
    table.update(pred, label)
    return table


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, torch.int16, torch.uint8])
def test_update_counts_each_pixel_once_and_ignores_255(dtype):
    pred, label = maps(5, 3)
    expected = np.zeros((5, 3), np.int64)
    for k, c in zip(pred, label, strict=True):
        if c != 255:
            expected[k, c] += 1
    if isinstance(dtype, torch.dtype):
        pred, label = torch.as_tensor(pred).to(dtype), torch.as_tensor(label).to(dtype)
    else:
        pred, label = pred.astype(dtype), label.astype(dtype)
    table = table_of(pred.reshape(20, 20), label.reshape(20, 20), 5, 3)
    assert table.counts.dtype == torch.int64
    np.testing.assert_array_equal(table.counts.numpy(), expected)


def test_everything_ignored_leaves_the_table_empty_even_with_wild_predictions():
    table = table_of(np.array([999, -1]), np.array([255, 255]), 2, 2)
    assert table.counts.sum() == 0
    assert np.isnan(table.miou([0, 1])) and np.isnan(table.accuracy([0, 1]))


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        ([0, 7], [0, 0], "pred: value 7"),
        ([0, -2], [0, 0], "pred: value -2"),
        ([0, 0], [0, 31], r"label .*value 31 .*0\.\.2"),
        ([0, 0], [0, -1], "label .*value -1"),
        ([0, 0, 0], [0, 0], "shape"),
        ([0.0, 1.0], [0, 0], "integers"),
    ],
)
def test_bad_input_is_named(pred, label, message):
    table = CountTable(4, 3)
    with pytest.raises(UserError, match=message):
        table.update(np.array(pred), np.array(label))
    assert table.counts.sum() == 0


@pytest.mark.parametrize(("clusters", "classes"), [(0, 3), (3, 0), (3, 256)])
def test_impossible_shapes_are_refused(clusters, classes):
    with pytest.raises(UserError):
        CountTable(clusters, classes)


def test_merge_equals_one_table_over_all_batches():
    whole, parts = CountTable(6, 4), [CountTable(6, 4), CountTable(6, 4)]
    for seed in range(4):
        pred, label = maps(6, 4, seed)
        whole.update(pred, label)
        parts[seed % 2].update(pred, label)
    parts[0].merge(parts[1])
    assert torch.equal(parts[0].counts, whole.counts)
    with pytest.raises(UserError, match="merge"):
        whole.merge(CountTable(4, 6))


def test_greedy_takes_the_majority_class_and_the_commonest_for_an_empty_cluster():
    table = CountTable(4, 3)
    table.counts[:] = torch.tensor([[5, 1, 0], [0, 2, 2], [0, 0, 0], [1, 9, 0]])
    assert table.greedy().tolist() == [0, 1, 1, 1]


counts = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 30), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@settings(max_examples=60, deadline=None)
@given(counts)
def test_hungarian_equals_brute_force(rows):
    table = CountTable(len(rows), len(rows[0]))
    table.counts[:] = torch.tensor(rows)
    mapping = table.hungarian().tolist()
    clusters, classes = table.counts.shape
    small, large = min(clusters, classes), max(clusters, classes)
    grid = table.counts.numpy() if clusters <= classes else table.counts.numpy().T
    best = max(
        sum(int(grid[i, j]) for i, j in enumerate(order))
        for order in itertools.permutations(range(large), small)
    )
    if clusters <= classes:
        assert len(set(mapping)) == clusters
        assert sum(rows[k][c] for k, c in enumerate(mapping)) == best
        return
    greedy = table.greedy().tolist()
    assert set(mapping) == set(range(classes))
    # C of the clusters can be picked that form the best matching while the rest is greedy.
    assert any(
        sum(rows[k][mapping[k]] for k in chosen) == best
        and sorted(mapping[k] for k in chosen) == list(range(classes))
        and all(mapping[k] == greedy[k] for k in range(clusters) if k not in chosen)
        for chosen in itertools.combinations(range(clusters), classes)
    )


def test_hungarian_equals_scipy_on_a_large_table():
    rng = np.random.default_rng(0)
    table = CountTable(27, 27)
    table.counts[:] = torch.from_numpy(rng.integers(0, 10**9, (27, 27)))
    rows, columns = linear_sum_assignment(-table.counts.numpy())
    assert table.hungarian()[rows].tolist() == columns.tolist()


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (7, 3), (2, 5)])
def test_scores_equal_scikit_learn(clusters, classes):
    pred, label = maps(clusters, classes, seed=3)
    table = table_of(pred, label, clusters, classes)
    for mapping in (table.greedy(), table.hungarian()):
        mapped, kept = mapping.numpy()[pred][label != 255], label[label != 255]
        names = np.arange(classes)
        np.testing.assert_array_equal(
            table.confusion(mapping).numpy(), metrics.confusion_matrix(kept, mapped, labels=names)
        )
        assert table.accuracy(mapping) == pytest.approx(metrics.accuracy_score(kept, mapped))
        iou = metrics.jaccard_score(kept, mapped, labels=names, average=None, zero_division=0)
        np.testing.assert_allclose(table.iou_per_class(mapping).numpy(), iou)
        assert table.miou(mapping) == pytest.approx(np.nanmean(iou))


def test_scores_equal_torchmetrics():
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    pred, label = (torch.from_numpy(values) for values in maps(6, 6, seed=5, size=5000))
    table = table_of(pred, label, 6, 6)
    iou = MulticlassJaccardIndex(6, average="none", ignore_index=255)(pred, label)
    accuracy = MulticlassAccuracy(6, average="micro", ignore_index=255)(pred, label)
    torch.testing.assert_close(table.iou_per_class(table.identity()).float(), iou)
    assert table.accuracy(table.identity()) == pytest.approx(float(accuracy))


def test_absent_classes():
    table = table_of(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 3]), 5, 5)
    iou = table.iou_per_class(table.identity())
    assert torch.isnan(iou[4])
    assert iou[1] == 0 and iou[2] == 0 and iou[3] == 0
    assert iou[0] == pytest.approx(2 / 3)
    assert table.miou(table.identity()) == pytest.approx((2 / 3) / 4)


@pytest.mark.parametrize("mapping", [[0, 1], [0, 1, 3], [0, 1, -1]])
def test_a_wrong_mapping_is_refused(mapping):
    with pytest.raises(UserError, match="mapping"):
        CountTable(3, 3).miou(mapping)


def test_identity_needs_as_many_clusters_as_classes():
    with pytest.raises(UserError, match="4 clusters are not 3 classes"):
        CountTable(4, 3).identity()


def test_matchings_on_iou_differ_from_those_on_counts():
    table = CountTable(3, 3)
    table.counts[:] = torch.tensor([[7, 6, 1], [37, 10, 2], [57, 12, 24]])
    assert table.hungarian_iou().tolist() == [1, 0, 2]
    assert 100 * table.miou(table.hungarian_iou()) == pytest.approx(24.80334317)
    assert table.hungarian().tolist() == [2, 1, 0]
    assert table.argmax_iou().tolist() == [1, 0, 0]
    assert table.greedy().tolist() == [0, 0, 0]


def test_more_clusters_than_classes_and_empty_ones_on_iou():
    table = CountTable(4, 2)
    table.counts[:] = torch.tensor([[8, 0], [0, 5], [2, 1], [0, 0]])
    assert table.pair_ious()[0].tolist() == [0.8, 0]
    assert table.pair_ious()[2].tolist() == [pytest.approx(2 / 11), pytest.approx(1 / 8)]
    assert table.pair_ious()[3].tolist() == [0, 0]
    assert table.hungarian_iou().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("clusters", [3, 6, 40])
def test_a_part_counts_the_pixels_whose_class_and_prediction_are_in_it(clusters):
    rng = np.random.default_rng(clusters)
    pred, label = rng.integers(0, clusters, 5000), rng.choice([0, 1, 2, 3, 4, 5, 255], 5000)
    table = CountTable(clusters, 6)
    table.update(pred, label)
    mapping = table.hungarian().numpy()
    for classes in ([0, 1, 2], [5, 3], [4]):
        kept = np.isin(mapping[pred], classes) & np.isin(label, classes)
        order = {c: i for i, c in enumerate(classes)}
        found = [[order[c] for c in values[kept]] for values in (mapping[pred], label)]
        expected = CountTable(len(classes), len(classes))
        expected.update(*(np.array(values, int) for values in found))
        part = table.restricted(mapping, classes)
        assert (part.counts == expected.counts).all()
        assert table.share_within(mapping, classes) == kept.sum() / np.isin(label, classes).sum()
        whole = table.restricted(mapping, range(6))
        assert whole.miou(whole.identity()) == table.miou(mapping)
        assert whole.accuracy(whole.identity()) == table.accuracy(mapping)


def test_a_part_by_hand():
    """Things 0 and 1, stuff 2 and 3; a cluster in each, and one more that is stuff by mistake."""
    table = CountTable(5, 4)
    table.counts = torch.tensor(
        [[8, 1, 1, 0], [2, 6, 0, 2], [0, 1, 5, 4], [0, 0, 1, 9], [7, 0, 3, 0]]
    )
    mapping = [0, 1, 2, 3, 2]
    things, stuff = table.restricted(mapping, [0, 1]), table.restricted(mapping, [2, 3])
    assert things.counts.tolist() == [[8, 1], [2, 6]]
    assert stuff.counts.tolist() == [[8, 4], [1, 9]]
    assert things.accuracy(things.identity()) == 14 / 17
    assert stuff.iou_per_class(stuff.identity()).tolist() == [8 / 13, 9 / 14]
    assert table.share_within(mapping, [0, 1]) == 17 / 25
    none = CountTable(2, 2)
    part = none.restricted([0, 1], [1])
    assert math.isnan(part.accuracy(part.identity()))
    assert math.isnan(none.share_within([0, 1], [1]))


@pytest.mark.parametrize("classes", [[], [0, 0], [2], [-1]])
def test_a_part_of_no_classes_is_refused(classes):
    with pytest.raises(UserError):
        CountTable(2, 2).restricted([0, 1], classes)

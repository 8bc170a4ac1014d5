import math

import pytest
import torch
from hypothesis import given, strategies as st

from harp.data.split import holdout, nested, subset
from harp.errors import HarpError

LABELS = st.lists(st.integers(0, 5), min_size=2, max_size=60).map(torch.tensor)
SEEDS = st.integers(0, 2**32)


def counts(labels: torch.Tensor, chosen: torch.Tensor) -> list[int]:
    return labels[chosen].bincount(minlength=int(labels.max()) + 1).tolist()


def test_a_share_takes_that_share_of_each_class():
    labels = torch.tensor([0] * 40 + [1] * 20)
    train, validation = holdout(labels, 0.25, seed=0)
    assert counts(labels, validation) == [10, 5]
    assert counts(labels, train) == [30, 15]


def test_a_count_is_shared_by_largest_remainder():
    # 4 * (7, 2, 1) / 10 = (2.8, 0.8, 0.4): floors 2, 0, 0, and the two largest remainders get one more.
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    assert counts(labels, subset(labels, 4, seed=0)) == [3, 1, 0]


def test_a_rare_class_is_in_both_parts():
    labels = torch.tensor([0] * 98 + [1] * 2)
    train, validation = holdout(labels, 4, seed=0)
    assert counts(labels, validation) == [3, 1]
    assert counts(labels, train) == [95, 1]


def test_a_class_of_one_image_stays_in_training():
    labels = torch.tensor([0, 0, 0, 5])
    train, validation = holdout(labels, 2, seed=0)
    assert counts(labels, train) == [1, 0, 0, 0, 0, 1]
    assert counts(labels, validation) == [2, 0, 0, 0, 0, 0]


@given(LABELS, SEEDS, st.data())
def test_holdout_is_complete_disjoint_exact_and_fair(labels, seed, data):
    classes, sizes = torch.unique(labels, return_counts=True)
    most = len(labels) - len(classes)
    if most < 1:
        return
    count = data.draw(st.integers(1, most))
    train, validation = holdout(labels, count, seed)
    assert sorted(torch.cat([train, validation]).tolist()) == list(range(len(labels)))
    assert len(validation) == count
    assert set(labels[train].tolist()) == set(labels.tolist())
    represented = len(torch.unique(labels[validation]))
    assert represented == min(count, int((sizes > 1).sum()))


@given(LABELS, SEEDS, st.data())
def test_a_subset_is_exact_and_within_one_of_its_proportion(labels, seed, data):
    count = data.draw(st.integers(1, len(labels)))
    chosen = subset(labels, count, seed)
    assert len(chosen) == count
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    ideal = labels.bincount() * count / len(labels)
    assert (torch.tensor(counts(labels, chosen)) - ideal).abs().max() < 1


def test_the_seed_decides():
    labels = torch.arange(1000) % 10
    assert torch.equal(holdout(labels, 0.1, seed=3)[1], holdout(labels, 0.1, seed=3)[1])
    assert not torch.equal(holdout(labels, 0.1, seed=3)[1], holdout(labels, 0.1, seed=4)[1])
    assert torch.equal(subset(labels, 100, seed=3), subset(labels, 100, seed=3))
    assert not torch.equal(subset(labels, 100, seed=3), holdout(labels, 100, seed=3)[1])


@pytest.mark.parametrize("wrong", [0, 9, -1, 0.0, 1.0, 1.5, math.nan, 0.01])
def test_a_senseless_holdout_is_refused(wrong):
    with pytest.raises(HarpError, match="validation"):
        holdout(torch.arange(10) % 2, wrong, seed=0)


@pytest.mark.parametrize("wrong", [0, 11])
def test_a_senseless_subset_is_refused(wrong):
    with pytest.raises(HarpError, match="expected 1 to 10"):
        subset(torch.arange(10) % 2, wrong, seed=0)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 3), st.data())
def test_a_nested_draw_is_in_proportion_and_grows(sizes, seed, data):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    count = data.draw(st.integers(1, len(labels)))
    chosen = nested(labels, count, seed)
    assert len(chosen) == len(chosen.unique()) == count
    assert (chosen.diff() > 0).all()
    taken = labels[chosen].bincount(minlength=len(sizes))
    assert all(abs(n - count * size / len(labels)) < 1 for n, size in zip(taken.tolist(), sizes, strict=True))
    more = nested(labels, data.draw(st.integers(count, len(labels))), seed)
    assert set(chosen.tolist()) <= set(more.tolist())


def test_many_small_classes_do_not_wait_for_a_large_one():
    # By the larger fraction alone the class of 300 would get all of the first 50.
    labels = torch.tensor([0] * 300 + [1 + n // 3 for n in range(300)])
    assert 24 <= int((labels[nested(labels, 50, 0)] == 0).sum()) <= 26


def test_a_nested_draw_of_all_is_all_in_order():
    labels = torch.tensor([1, 0, 1])
    assert nested(labels, 3, 0).tolist() == nested(labels, 9, 0).tolist() == [0, 1, 2]
    with pytest.raises(HarpError, match="a draw of 0 images"):
        nested(labels, 0, 0)


def test_a_nested_draw_is_named_by_its_seed():
    labels = torch.arange(100) % 2
    assert torch.equal(nested(labels, 10, 0), nested(labels, 10, 0))
    assert not torch.equal(nested(labels, 10, 0), nested(labels, 10, 1))

import itertools
import math

import pytest
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.sparsity import Masks, top_mask
from harp.sparsity.masks import SAMPLE

# Few values, so that ties are common; -0.0 ties with 0.0.
few = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 1.0, math.inf])
scores = st.lists(few | st.floats(-10, 10, width=32), min_size=1, max_size=40)


def bits(*values):
    return torch.tensor(values, dtype=torch.bool)


def test_the_largest_are_kept():
    scores = torch.tensor([0.1, 0.9, -0.2, 0.5]).abs()
    assert top_mask(scores, 2).tolist() == [False, True, False, True]


def test_of_equal_scores_the_first_win_in_the_order_of_memory():
    assert top_mask(torch.ones(2, 3), 4).tolist() == [[True, True, True], [True, False, False]]
    assert top_mask(torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0]), 3).tolist() == [True, True, False, True, False]
    assert top_mask(torch.tensor([-0.0, 0.0]), 1).tolist() == [True, False]


@given(scores, st.data())
def test_the_count_is_exact_and_every_kept_score_is_at_least_every_dropped_one(values, data):
    count = data.draw(st.integers(0, len(values)))
    values = torch.tensor(values)
    mask = top_mask(values, count)
    assert mask.dtype is torch.bool
    assert mask.sum() == count
    if 0 < count < len(values):
        assert values[mask].min() >= values[~mask].max()
        # The tie rule: among scores equal to the smallest kept one, no dropped one comes before a kept one.
        tied = mask[values == values[mask].min()].tolist()
        assert tied == sorted(tied, reverse=True)


def test_large_layers_are_cut_where_sorting_cuts_them():
    size = 9 * SAMPLE
    drawn = torch.rand(size, generator=torch.Generator().manual_seed(0))
    unseen = drawn.clone()
    unseen[:: size // SAMPLE] = 0.5  # whatever the sample says of these values is wrong
    for values in (drawn, unseen, drawn.sort().values, (8 * drawn).round(), torch.zeros(size)):
        order = values.sort(descending=True, stable=True).indices
        for count in (1, 147, size // 10, size // 2, size - 1, size):
            assert torch.equal(top_mask(values, count).nonzero().flatten(), order[:count].sort().values)


def test_one_more_keeps_all_that_were_kept():
    values = torch.tensor([1.0, 3.0, 1.0, 2.0, 3.0, 1.0])
    masks = [top_mask(values, count) for count in range(7)]
    assert all((larger | ~smaller).all() for smaller, larger in itertools.pairwise(masks))


def test_scores_that_train_are_ranked_without_a_gradient():
    mask = top_mask(torch.ones(2, requires_grad=True), 1)
    assert not mask.requires_grad


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1), (6,)])
def test_the_mask_has_the_shape_of_the_scores(shape):
    assert top_mask(torch.zeros(shape), 0).shape == shape
    assert top_mask(torch.zeros(shape), 3).shape == shape


@pytest.mark.parametrize("count", [0, 1, 2])
def test_nan_has_no_rank(count):
    with pytest.raises(HarpError, match="scores hold NaN"):
        top_mask(torch.tensor([1.0, math.nan]), count)


@pytest.mark.parametrize("count", [-1, 3])
def test_a_count_outside_the_size_is_refused(count):
    with pytest.raises(ValueError, match="count: expected 0 to 2, got"):
        top_mask(torch.zeros(2), count)


def test_masks_count_what_they_keep():
    masks = Masks({"a": bits(True, False, True), "b": bits(True)})
    assert masks.counts == {"a": 2, "b": 1}
    assert (masks.kept, masks.total, masks.density) == (3, 4, 0.75)
    assert list(masks) == ["a", "b"]
    assert len(masks) == 2
    assert masks["b"].tolist() == [True]


def test_a_mask_that_is_not_bool_is_refused():
    with pytest.raises(HarpError, match=r"mask 'conv.weight': expected bool, got torch.float32"):
        Masks({"conv.weight": torch.ones(2)})


def test_a_mask_that_cuts_a_layer_through_is_refused():
    with pytest.raises(HarpError, match=r"mask 'conv\.weight' keeps no weight"):
        Masks({"conv.weight": bits(False, False)})


def test_masks_do_not_follow_the_mapping_they_came_from():
    source = {"a": bits(True)}
    masks = Masks(source)
    source["b"] = bits(True)
    assert list(masks) == ["a"]

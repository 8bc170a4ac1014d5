import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.sparsity import Budget, Weights, find_sites, largest


def units(*sizes, macs=None):
    return Weights(find_sites(nn.Sequential(*[nn.Linear(size, 1, bias=False) for size in sizes])), macs)


def scores(*rows):
    return {f"{index}.weight": torch.tensor([row]) for index, row in enumerate(rows)}


def kept(masks):
    return [mask.int()[0].tolist() for mask in masks.values()]


def test_one_order_decides_over_all_and_a_pool_keeps_its_floor_whatever_its_scores():
    found = largest(units(4, 4), Budget(0.5, floor=0.0), scores([0.9, 0.8, 0.7, 0.6], [-3.0, -1.0, -2.0, -4.0]))
    assert kept(found) == [[1, 1, 1, 0], [0, 1, 0, 0]]
    found = largest(units(4, 4), Budget(0.5, floor=1.0), scores([0.9, 0.8, 0.7, 0.6], [-3.0, -1.0, -2.0, -4.0]))
    assert kept(found) == [[1, 1, 0, 0], [0, 1, 1, 0]]


def test_of_equal_scores_the_first_stay():
    found = largest(units(3, 3), Budget(4 / 6, floor=0.0), scores([0.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    assert kept(found) == [[1, 1, 1], [0, 1, 0]]


def test_dear_weights_that_do_not_fit_leave_room_to_cheap_ones():
    """Prices 10 and 1 of four weights each: of 22 two dear ones are bought, and two cheap ones fill up."""
    macs = {"0.weight": 40, "1.weight": 4}
    found = largest(
        units(4, 4, macs=macs),
        Budget(0.5, "macs", floor=0.0),
        scores([0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]),
    )
    assert kept(found) == [[1, 1, 0, 0], [0, 0, 1, 1]]


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=9), min_size=1, max_size=4))
def test_it_is_the_sorted_order_down_to_the_budget(rows):
    groups = units(*map(len, rows))
    count = round(0.6 * sum(groups.sizes))
    found = largest(groups, Budget(0.6, floor=0.0), scores(*rows))
    assert sum(mask.sum() for mask in found.values()) == count
    pairs = [list(zip(row, mask, strict=True)) for row, mask in zip(rows, kept(found), strict=True)]
    inside = [value for group in pairs for value, bit in group if bit]
    outside = [value for group in pairs for value, bit in group if not bit]
    # A layer group's one weight that stays whatever it scores is its largest.
    forced = [max(row) for row, mask in zip(rows, kept(found), strict=True) if sum(mask) == 1]
    for value in forced:
        inside.remove(value)
    assert not inside or not outside or min(inside) >= max(outside)


def test_scores_without_an_order_are_refused_by_name():
    with pytest.raises(HarpError, match=r"scores of 1\.weight hold NaN"):
        largest(units(2, 2), Budget(0.5), scores([0.1, 0.2], [0.1, float("nan")]))

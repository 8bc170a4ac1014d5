"""Lists of entries hold every non-zero once, where it belongs."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from harp.graph import Sparse
from harp.graph.tensors import to_array
from harp.runtime.distinct import distinct
from harp.runtime.layers import Window
from harp.runtime.native import SHORT
from harp.runtime.taps import FARTHEST, Taps

SQUARE = Window((3, 3))


@st.composite
def weights(draw: st.DrawFn) -> torch.Tensor:
    """A weight [1 to 9, 1 to 4, 3, 3] of whole numbers, from empty to full."""
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 4)), 3, 3)
    kept = torch.rand(shape, generator=noise) < draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    return torch.randint(1, 100, shape, generator=noise).float() * kept


def dense(taps: Taps, channels: int) -> torch.Tensor:
    weight = np.zeros((taps.filters, channels, 3, 3), np.float32)
    weight[taps.filter, taps.channel, taps.y, taps.x] = taps.value
    return torch.from_numpy(weight)


@given(weights())
def test_a_weight_is_its_taps(weight: torch.Tensor):
    taps = Taps.of(weight.numpy(), None, SQUARE)
    assert torch.equal(dense(taps, weight.shape[1]), weight)
    assert len(taps.value) == weight.count_nonzero()
    assert torch.equal(dense(Taps.of(to_array(Sparse.of(weight)), None, SQUARE), weight.shape[1]), weight)


@given(st.lists(st.integers(-(2**40), 2**40) | st.integers(0, 3)))
def test_distinct_numbers_and_where_each_is(numbers: list[int]):
    given_ = np.array(numbers, np.int64)
    found, place = distinct(given_)
    assert found.tolist() == sorted(set(numbers))
    assert found[place].tolist() == numbers


def test_groups_read_channels_of_their_own():
    """Four filters in two groups of two channels: the last two filters read channels 2 and 3."""
    taps = Taps.of(np.ones((4, 2, 1, 1), np.float32), None, Window((1, 1)), groups=2)
    assert taps.filter.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert taps.channel.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_a_matrix_and_a_long_kernel():
    matrix = Taps.of(np.array([[0.0, 2.0], [3.0, 0.0]], np.float32), None, Window((1, 1)))
    assert (matrix.filter.tolist(), matrix.channel.tolist(), matrix.value.tolist()) == ([0, 1], [1, 0], [2, 3])
    weight = torch.zeros(1, 1, 7, 1)
    weight[0, 0, 5] = 1
    taps = Taps.of(weight.numpy(), None, Window((7, 1)))
    assert (taps.y.tolist(), taps.x.tolist()) == ([5], [0])


def test_negative_zeros_are_no_taps():
    assert len(Taps.of(np.array([[-0.0, 1.0]], np.float32), None, Window((1, 1))).value) == 1


def listed(starts: np.ndarray, entries: np.ndarray, place: int) -> list[Any]:
    found: list[Any] = entries[starts[place] : starts[place + 1]].tolist()
    return found


@given(weights())
def test_entries_lie_in_the_list_of_their_filter_and_column(weight: torch.Tensor):
    taps = Taps.of(weight.numpy(), None, SQUARE)
    starts, entries = taps.entries(100 * taps.channel + 10 * taps.y + taps.x, taps.x, 3)
    assert len(starts) == 3 * len(weight) + 1
    for f in range(len(weight)):
        for column in range(3):
            expected = [
                (100 * c + 10 * y + column, weight[f, c, y, column].item())
                for c in range(weight.shape[1])
                for y in range(3)
                if weight[f, c, y, column]
            ]
            assert listed(starts, entries, 3 * f + column) == (expected[::-1] if f % 2 else expected)


@given(weights())
def test_short_entries_are_the_same(weight: torch.Tensor):
    taps = Taps.of(weight.numpy(), None, SQUARE)
    offset = FARTHEST - 100 * taps.channel - 10 * taps.y - taps.x
    starts, entries = taps.entries(offset, taps.x, 3, SHORT)
    assert entries.nbytes == 6 * len(taps.value)
    assert entries.tolist() == taps.entries(offset, taps.x, 3)[1].tolist()
    assert starts[-1] == len(entries)


@given(weights(), st.sampled_from([4, 16]))
def test_dense_weights_stand_beside_their_offset(weight: torch.Tensor, together: int):
    taps = Taps.of(weight.numpy(), None, SQUARE)
    places, weights = taps.dense(9 * taps.channel + 3 * taps.y + taps.x, together)
    assert places[0] == len(places) - 1 == taps.places
    whole = torch.zeros(weights.shape[0] * together, weight[0].numel())
    whole[:, places[1:].astype(int)] = torch.from_numpy(weights).mT.reshape(len(whole), -1)
    assert torch.equal(whole[: len(weight)], weight.flatten(1))
    assert not whole[len(weight) :].any()


@given(weights())
def test_quads_hold_four_filters_and_zeros_where_one_lacks_a_weight(weight: torch.Tensor):
    taps = Taps.of(weight.numpy(), None, SQUARE)
    offset = 100 * taps.channel + 10 * taps.y + taps.x - 50  # padding leads to offsets below zero
    starts, entries = taps.quads(offset, taps.x, 3)
    found = torch.zeros(-(-len(weight) // 4) * 4, *weight.shape[1:])
    for group in range(len(found) // 4):
        for column in range(3):
            of_list = listed(starts, entries, 3 * group + column)
            assert len({at for at, _ in of_list}) == len(of_list)
            for at, values in of_list:
                channel, tap = divmod(at + 50, 100)
                assert tap % 10 == column
                found[4 * group : 4 * group + 4, channel, tap // 10, column] = torch.tensor(values)
    assert torch.equal(found[: len(weight)], weight)
    assert not found[len(weight) :].any()


@given(weights())
def test_quads_are_counted_exactly_where_they_may_be_worth_it(weight: torch.Tensor):
    taps = Taps.of(weight.numpy(), None, SQUARE)
    _, entries = taps.quads(100 * taps.channel + 10 * taps.y + taps.x, taps.x, 3)
    if 4 * len(taps.value) >= weight.numel():
        assert taps.quad_count == len(entries)
    else:
        assert taps.quad_count == 4 * len(taps.value) >= len(entries)


@pytest.mark.parametrize("filters", [1, 3, 4, 5])
def test_an_empty_weight_has_empty_lists(filters: int):
    taps = Taps.of(np.zeros((filters, 2, 3, 3), np.float32), None, SQUARE)
    none = np.zeros(0, np.int64)
    assert taps.entries(none, none, 3)[0].tolist() == [0] * (3 * filters + 1)
    assert taps.quads(none, none, 3)[0].tolist() == [0] * (3 * -(-filters // 4) + 1)
    assert taps.quad_count == 0


@pytest.mark.parametrize("filters", [1, 3, 4, 5])
def test_there_is_a_bias_for_every_filter_of_a_last_four(filters: int):
    weight, bias = torch.ones(filters, 2, 3, 3), torch.arange(1.0, 1 + filters)
    for given_ in (bias, Sparse.of(bias)):
        found = Taps.of(weight.numpy(), to_array(given_), SQUARE).bias
        assert found.tolist() == bias.tolist() + [0.0] * (-filters % 4)
    assert not Taps.of(weight.numpy(), None, SQUARE).bias.any()

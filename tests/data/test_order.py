import pytest
import torch
from hypothesis import given, strategies as st

from harp.data.order import Permutation
from harp.errors import HarpError


def order(n: int, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return Permutation(n, seed, ("order", epoch))(torch.arange(n))


@pytest.mark.parametrize("n", [*range(1, 201), 4095, 4096, 4097, 65_537, 300_000])
def test_every_index_comes_once(n):
    assert torch.equal(order(n).sort().values, torch.arange(n))


@given(st.integers(2, 10**12), st.integers(0, 2**62), st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_a_place_is_computed_by_itself(n, seed, places):
    wanted = torch.tensor(places) % n
    found = Permutation(n, seed, ("order", 3))
    together = found(wanted)
    assert ((together >= 0) & (together < n)).all()
    assert together.tolist() == [int(found(place)) for place in wanted]


def test_other_seeds_and_epochs_are_other_orders():
    first = order(1000)
    assert torch.equal(first, order(1000))
    for other in (order(1000, seed=1), order(1000, epoch=1), torch.arange(1000)):
        # Two random orders agree at one place on average, at eight or more once in 10^5.
        assert int((first == other).sum()) < 8


@pytest.mark.parametrize("n", [5, 16, 17])
def test_every_index_is_as_likely_at_every_place(n):
    draws = 400
    counts = torch.zeros(n, n)
    for epoch in range(draws):
        counts[torch.arange(n), order(n, epoch=epoch)] += 1
    expected = draws / n
    # Rows and columns have a fixed sum, so (n - 1)^2 are free; six standard deviations of the chi-square statistic.
    free = (n - 1) ** 2
    assert float(((counts - expected) ** 2 / expected).sum()) < free + 6 * (2 * free) ** 0.5


def test_all_orders_of_four_occur_alike():
    draws = 1200
    seen = [tuple(order(4, epoch=epoch).tolist()) for epoch in range(draws)]
    counts = torch.tensor([seen.count(one) for one in set(seen)])
    assert len(counts) == 24
    # Expected 50 of each, standard deviation 7.
    assert (counts - 50).abs().max() < 35


def test_an_order_of_nothing_is_refused():
    with pytest.raises(HarpError, match="an order of 0 images"):
        Permutation(0, 0, ())

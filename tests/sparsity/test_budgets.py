import itertools
import math
import re

import numpy
import pytest
import torch
from hypothesis import assume, given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.sparsity import Budget, Cost, Site, Weights, allocation, allocations, allot, apportion

sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=12)
keeps = st.floats(1e-4, 1) | st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.5, 1.0])
floors = st.floats(0, 0.99) | st.sampled_from([0.0, 0.1])
shares = st.floats(0, 1)


def sites_of(sizes):
    """Sites of these sizes that hold no memory."""
    return tuple(Site(f"{i}", nn.Parameter(torch.empty(size, device="meta"))) for i, size in enumerate(sizes))


def uniform(sites, budget):
    return allot(Weights(sites), budget, allocation("uniform", Weights(sites)))


def from_rates(sites, budget, rates):
    return allot(Weights(sites), budget, allocations.from_rates(Weights(sites), budget.least, rates))


def reachable(budget, sizes):
    try:
        return budget.floors(sizes)
    except HarpError:
        return None


@st.composite
def budgets(draw):
    some, budget = draw(sizes), Budget(draw(keeps), floor=draw(floors))
    assume(reachable(budget, some))
    return some, budget


def assert_within(counts, sizes, budget):
    assert sum(counts.values()) == round(budget.keep * sum(sizes))
    least = budget.floors(sizes)
    for count, size, floor in zip(counts.values(), sizes, least, strict=True):
        assert max(1, floor) <= count <= size
        assert count >= budget.floor * budget.keep * size - 1e-6


@given(budgets())
def test_uniform_counts_are_exact_and_within_floor_and_size(drawn):
    some, budget = drawn
    assert_within(uniform(sites_of(some), budget), some, budget)


@given(budgets())
def test_uniform_counts_are_within_one_of_the_share_where_no_floor_binds(drawn):
    some, budget = drawn
    total = round(budget.keep * sum(some))
    wanted = [total * size / sum(some) for size in some]
    assume(all(math.floor(w) >= f for w, f in zip(wanted, budget.floors(some), strict=True)))
    counts = uniform(sites_of(some), budget).values()
    assert all(abs(count - w) < 1 for count, w in zip(counts, wanted, strict=True))


@given(budgets(), st.data())
def test_counts_from_rates_are_exact_and_keep_the_order_of_the_rates(drawn, data):
    some, budget = drawn
    rates = data.draw(st.lists(shares, min_size=len(some), max_size=len(some)))
    counts = from_rates(sites_of(some), budget, {f"{i}": rate for i, rate in enumerate(rates)})
    assert_within(counts, some, budget)
    layers = list(zip(rates, counts.values(), some, budget.floors(some), strict=True))
    for (rate, count, size, _), (other, fewer, measure, floor) in itertools.permutations(layers, 2):
        # A floor may lift a small layer; rounding moves a count by less than one.
        if rate >= other and fewer > floor:
            assert (count + 1) / size >= (fewer - 1) / measure


@pytest.mark.parametrize(
    "rates",
    [
        [1.0] * 4,
        [1 - 1e-7] * 4,
        [0.0] * 4,
        [1e-30] * 4,
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.999, 0.1, 0.5, 1e-9],
    ],
)
@pytest.mark.parametrize("keep", [0.001, 0.01, 0.5, 0.999, 1.0])
def test_runaway_rates_meet_the_budget(rates, keep):
    some, budget = [1728, 36864, 589824, 2560], Budget(keep)
    counts = from_rates(sites_of(some), budget, {f"{i}": rate for i, rate in enumerate(rates)})
    assert_within(counts, some, budget)


def test_rates_that_meet_the_budget_are_kept():
    counts = from_rates(sites_of([100, 1000]), Budget(0.1), {"0": 0.6, "1": 0.05})
    assert counts == {"0": 60, "1": 50}


def test_equal_rates_are_the_uniform_share():
    some = [1728, 36864, 589824, 2560]
    rates = {f"{i}": 0.3 for i in range(4)}
    assert from_rates(sites_of(some), Budget(0.01), rates) == uniform(sites_of(some), Budget(0.01))


def test_uniform_by_hand():
    # 1 % of 1,500 is 15: 10 and 2.5 and 2.5, and the earlier of the two remainders rounds up.
    assert uniform(sites_of([1000, 250, 250]), Budget(0.01)) == {"0": 10, "1": 3, "2": 2}


@pytest.mark.parametrize(
    ("size", "keep", "count"), [(2560, 0.001, 3), (1728, 0.001, 2), (1728, 0.01, 17), (2560, 0.01, 26)]
)
def test_the_integer_promise(size, keep, count):
    assert Budget(keep).count(size) == count
    assert uniform(sites_of([size]), Budget(keep)) == {"0": count}


def test_a_floor_that_is_an_integer_is_not_raised_by_rounding_error():
    # 0.1 * 0.1 = 0.010000000000000002 in floats; 1 % of 300 is still 3.
    assert Budget(0.1, floor=0.1).floors([300, 1000]) == [3, 10]
    assert Budget(0.1, floor=0.1).floors([301, 1]) == [4, 1]


def test_a_floor_of_one_is_met_by_the_uniform_share():
    assert uniform(sites_of([100, 300]), Budget(0.01, floor=1)) == {"0": 1, "1": 3}


# Floors of many weights in each layer are the hard case: the error's keep must not ask for one more in any of them.
@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=12), keeps, st.floats(0, 1) | st.sampled_from([0.5, 0.9, 1.0])
)
def test_an_impossible_budget_names_the_smallest_reachable_keep(some, keep, floor):
    total = sum(some)
    try:
        Budget(keep, floor=floor).floors(some)
    except HarpError as error:
        found = re.search(r"smallest reachable keep is ([-+.e\d]+) \(([\d,]+) parameters\)$", str(error))
        assert found is not None
        named, count = float(found[1]), int(found[2].replace(",", ""))
        assert Budget(named, floor=floor).count(total) == count
        assert sum(Budget(named, floor=floor).floors(some)) <= count
        assert count > Budget(keep, floor=floor).count(total) or keep > named - 1 / total
        assert reachable(Budget((count - 1) / total, floor=floor), some) is None


def test_an_impossible_budget_by_hand():
    with pytest.raises(
        HarpError,
        match=r"keep: 0\.001 of 1,002 parameters is 1, less than the floors of 3 layers need; the smallest reachable",
    ):
        Budget(0.001).floors([1000, 1, 1])
    assert Budget(3 / 1002).floors([1000, 1, 1]) == [1, 1, 1]


def test_the_named_keep_may_be_typed_in():
    # With a floor of 0.9 the smallest keep of [1, 5] is 4 / 6, whose six digits round up.
    with pytest.raises(HarpError, match="smallest reachable") as error:
        Budget(0.1, floor=0.9).floors([1, 5])
    (said,) = re.findall(r"keep is (\S+)", str(error.value))
    named = float(said)
    assert sum(Budget(named, floor=0.9).floors([1, 5])) <= Budget(named, floor=0.9).count(6)


@pytest.mark.timeout(5)
def test_the_error_is_quick_for_a_large_network():
    # Sizes without a common factor and a floor equal to the share: rounding up exceeds every budget below 1.
    with pytest.raises(HarpError, match="smallest reachable keep is 1 "):
        Budget(0.0123, floor=1.0).floors([2359296, 2359297, 2359295, 2359299, 64])


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, math.nan])
def test_a_keep_that_is_no_share_is_refused(keep):
    with pytest.raises(HarpError, match="keep: expected a share above 0 and at most 1"):
        Budget(keep)


@pytest.mark.parametrize("floor", [-0.1, 1.01, math.nan])
def test_a_floor_that_is_no_share_is_refused(floor):
    with pytest.raises(HarpError, match="floor: expected a share from 0 to 1"):
        Budget(0.1, floor=floor)


def test_apportion_by_hand():
    assert apportion([1.2, 2.7, 0.1], 4, [0, 0, 0], [9, 9, 9]) == [1, 3, 0]
    assert apportion([0.5, 0.5], 1, [0, 0], [1, 1]) == [1, 0]
    assert apportion([0.0, 10.0], 10, [3, 0], [9, 9]) == [3, 7]
    assert apportion([10.0, 0.0], 10, [0, 0], [4, 9]) == [4, 6]


@pytest.mark.parametrize(("total", "floors", "caps"), [(1, [1, 1], [5, 5]), (11, [0, 0], [5, 5]), (5, [3, 0], [2, 9])])
def test_apportion_refuses_what_no_integers_meet(total, floors, caps):
    with pytest.raises(ValueError, match=f"no integers within the floors and caps cost {total}"):
        apportion([1.0, 1.0], total, floors, caps)


def test_a_dear_unit_is_bought_while_it_fits_and_the_rest_is_spent():
    # Prices 4 and 1; rounding down spends 11: of 14 three are left, no dear unit and three cheap ones.
    cost = Cost(0.0, numpy.array([4.0, 1.0]))
    assert apportion([2.6, 3.6], 14, [0, 0], [9, 9], cost) == [2, 6]
    assert apportion([2.6, 3.6], 15, [0, 0], [9, 9], cost) == [3, 3]


def test_products_are_priced_as_they_grow():
    # Two layers in a row, 3 inputs, u and v channels, 5 outputs: 3 u + u v + 5 v.
    cost = Cost(0.0, numpy.array([3.0, 5.0]), numpy.array([[0.0, 1.0], [0.0, 0.0]]))
    assert cost([4, 6]) == 12 + 24 + 30
    assert cost.step([4, 6], 0, 1) == 3 + 6
    assert cost.step([4, 6], 1, -1) == -(4 + 5)
    assert cost.slopes([4, 6]).tolist() == [9, 9]
    units = torch.tensor([4.0, 6.0], requires_grad=True)
    cost.tensor(units).backward()
    assert units.grad is not None
    assert units.grad.tolist() == [9, 9]


def test_a_rest_is_spent_on_what_still_fits():
    # A unit of 10 and units of 1, wanted in equal numbers: 2.5 each make 27.5, and 20 + 2 leave 5 to the cheap group.
    cost = Cost(0.0, numpy.array([10.0, 1.0]))
    assert apportion([2.5, 2.5], 27, [0, 0], [9, 9], cost) == [2, 7]
    assert apportion([2.5, 2.5], 27, [0, 0], [9, 4], cost) == [2, 4]


def test_a_rest_of_thousands_of_cheap_units_is_shared_out_by_their_shares():
    cost = Cost(0.0, numpy.array([1e6, 1.0, 1.0]))
    first, second, third = apportion([1.999, 1000.0, 3000.0], 1_999_000, [0, 0, 0], [9, 10**6, 10**6], cost)
    assert (first, second + third) == (1, 999_000)
    assert second / third == pytest.approx(1 / 3, rel=0.1)


prices = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=8)


@given(prices, st.floats(0, 1), st.booleans())
def test_nothing_more_fits_into_what_is_left_and_nothing_is_over(drawn, keep, products):
    caps, price = [cap for cap, _, _ in drawn], numpy.array([float(p) for _, p, _ in drawn])
    quadratic = numpy.triu(numpy.ones((len(caps), len(caps)))) if products else None
    cost = Cost(7.0, price, quadratic)
    least = [1] * len(caps)
    target = round(cost(least) + keep * (cost(caps) - cost(least)))
    counts = apportion([share * cap for cap, _, share in drawn], target, least, caps, cost)
    assert all(1 <= count <= cap for count, cap in zip(counts, caps, strict=True))
    assert cost(counts) <= target
    room = [cost.step(counts, i, 1) for i, count in enumerate(counts) if count < caps[i]]
    assert all(target - cost(counts) < price for price in room)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.floats(1e-6, 1))
def test_a_share_of_the_whole_is_the_same_integer_of_what_is_left(whole, left, keep):
    budget = Budget(keep)
    assume(0 < budget.count(whole) <= left)
    within = budget.within(whole, left)
    assert within.count(left) == budget.count(whole)


def test_a_share_of_the_whole_that_is_not_left_any_more_or_too_small_is_told_by_the_whole():
    with pytest.raises(HarpError, match=r"keep: 0\.5 of the whole network's 1,000 parameters is 500, .* left only 400"):
        Budget(0.5).within(1000, 400)
    with pytest.raises(
        HarpError, match=r"keep: 0\.001 of 1,000 parameters is 1, .* smallest reachable keep is 0\.002 "
    ):
        Budget(0.001).within(1000, 400).floors([200, 200])

"""Rates held to the budget: exactly at every step, or by a penalty (the penalty's own numbers are in test_harp)."""

import numpy
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.pruners.method import Course
from harp.pruners.rates import Exact, Penalty, make_rates
from harp.sparsity import Budget, Site, Weights, allocation, allot, find_sites, rates_at, trace_macs

STEPS = 100


def units():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8 * 36, 10, bias=False))
    return Weights(find_sites(model), trace_macs(model, torch.rand(1, 3, 8, 8)))


def exact(keep=0.05, of="parameters", start="uniform", start_keep=0.5):
    return Exact(units(), Budget(keep, of), start, start_keep, steps=STEPS)


def test_what_is_allowed_falls_by_a_cubic_over_the_first_three_fifths():
    rates = exact()
    allowed = []
    for step in (0, 30, 60, 100):
        rates.advance(step)
        allowed.append(rates.allowed)
    assert allowed == [round(k * 3096) for k in (0.5, 0.05 + 0.45 / 8, 0.05, 0.05)]


@pytest.mark.parametrize("of", ["parameters", "macs"])
@given(r=st.lists(st.floats(-2, 2), min_size=2, max_size=2), step=st.integers(0, STEPS))
def test_the_budget_holds_at_every_step_whatever_the_logits(of, r, step):
    rates = exact(of=of)
    with torch.no_grad():
        rates.logits.copy_(torch.tensor(r))
    rates.advance(step)
    spent = rates.cost(list(rates.counts().values()))
    assert rates.allowed - (36 if of == "macs" else 1) < spent <= rates.allowed
    assert float(rates.price().detach()) == pytest.approx(rates.allowed, rel=0.02)


def test_the_recorded_density_is_that_of_the_integers_in_force():
    # 5 % of the second layer group's 10 weights is half a weight, and no layer group keeps less than one.
    sites = tuple(Site(f"{i}", nn.Parameter(torch.zeros(size, 1))) for i, size in enumerate((100, 10)))
    rates = Exact(Weights(sites), Budget(0.05), "uniform", 0.05, steps=STEPS)
    with torch.no_grad():
        rates.logits.copy_(torch.tensor([-1.0, -20.0]))
    assert rates.counts() == {"0": 5, "1": 1}
    assert rates.record() == {"density": 6 / 110}


def test_the_gradient_of_the_shift_is_taken_along():
    """The rates' derivative by the logits, against finite differences of the solved rates."""
    rates = exact(of="macs")
    rates.advance(80)
    with torch.no_grad():
        rates.logits.copy_(torch.tensor([0.7, -0.4]))
    jacobian = torch.stack([torch.autograd.grad(rate, rates.logits, retain_graph=True)[0] for rate in rates.now()])
    numbers = []
    for i in range(2):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                rates.logits[i] += sign * 1e-2
                sides.append(rates.now().double())
                rates.logits[i] -= sign * 1e-2
        numbers.append((sides[0] - sides[1]) / 2e-2)
    torch.testing.assert_close(jacobian.double(), torch.stack(numbers, 1), rtol=2e-3, atol=1e-6)
    # No step along the gradient of anything changes the price.
    price = torch.autograd.grad(rates.price(), rates.logits)[0]
    assert price.abs().max() < 1e-3 * rates.allowed


@pytest.mark.parametrize("start", ["uniform", "erk", "ideal-gas", "lamp"])
def test_rates_begin_as_the_allocation_says(start):
    groups, first = units(), 0.3
    expected = rates_at(groups, Budget(first), allocation(start, groups)).clip(0, 0.99)
    for mode in ("penalty", "exact"):
        rates = make_rates(groups, Budget(0.01), mode, start, first, 0.1, Course(5, 50))
        if mode == "penalty":
            numpy.testing.assert_allclose(rates.now().detach().numpy(), expected, rtol=1e-5)
    assert sum(rates.counts().values()) == round(first * 3096)


@pytest.mark.parametrize("start", ["uniform", "erk", "ideal-gas", "lamp"])
def test_where_nothing_is_learned_exact_ends_with_the_allocation_it_began_with(start):
    groups, budget = units(), Budget(0.05)
    rates = Exact(groups, budget, start, 0.5, steps=STEPS)
    rates.advance(STEPS)
    expected = allot(groups, budget, allocation(start, groups))
    assert all(abs(count - expected[name]) <= 1 for name, count in rates.counts().items())


def test_usual_starts():
    groups = units()
    for keep, start in ((0.01, 0.1), (0.4, 0.4)):
        rates = make_rates(groups, Budget(keep), "exact", "uniform", None, 0, Course(1, 9))
        assert isinstance(rates, Exact)
        assert rates.start_keep == start


def test_exact_needs_the_length_of_the_stage():
    with pytest.raises(HarpError, match="it needs course="):
        make_rates(units(), Budget(0.1), "exact", "uniform", None, 0.1, Course(5, None))


def test_the_state_brings_back_step_and_logits():
    first, second = exact(), exact()
    first.advance(40)
    with torch.no_grad():
        first.logits.copy_(torch.tensor([0.3, -0.3]))
    second.load_state_dict(first.state_dict())
    assert second.counts() == first.counts()
    assert torch.equal(second.now(), first.now())


@pytest.mark.parametrize(("excess", "frozen"), [(4e-5, True), (6e-5, False)])
def test_gamma_freezes_where_the_excess_is_nothing_to_four_decimals(excess, frozen):
    layer = Weights((Site("0", nn.Parameter(torch.zeros(1000, 1))),))
    rates = make_rates(layer, Budget(0.2, floor=0.0), "penalty", "uniform", 0.5, 0.1, Course(5, None))
    share = 0.2 * (1 + excess)
    with torch.no_grad():
        rates.logits.copy_(torch.tensor([share / (1 - share)]).double().log())
    rates.advance(5)
    assert isinstance(rates, Penalty)
    assert (rates.frozen_gamma is not None) == frozen

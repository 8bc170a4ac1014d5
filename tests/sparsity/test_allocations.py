"""Rules for sharing out, against published lists (METHODS 1.11 and 7.9) and by hand."""

import json
from functools import cache

import numpy
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.models import build
from harp.sparsity import (
    ALLOCATIONS,
    Budget,
    Weights,
    allocation,
    allot,
    find_sites,
    from_rates,
    rates_at,
    trace_macs,
)

# METHODS 7.9: the ideal gas at 1 %.
GAS = {
    "vgg16_bn": [0.867, 0.234, 0.132, 0.071, 0.037, 0.019, 0.019, 0.0094, *[0.0047] * 5, 0.021, 0.147, 0.815],
    "resnet18": [
        *[0.780, 0.143, 0.143, 0.143, 0.143, 0.077, 0.040, 0.428, 0.040, 0.040, 0.020, 0.010, 0.158, 0.010, 0.010],
        *[0.0052, 0.0026, 0.045, 0.0026, 0.0026, 0.545],
    ],
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8 * 36, 10, bias=False))


@cache
def units():
    model = network()
    return Weights(find_sites(model), trace_macs(model, torch.rand(1, 3, 8, 8)))


@pytest.mark.parametrize("name", GAS)
def test_ideal_gas_gives_the_published_lists(name):
    groups = Weights(find_sites(build(name, classes=10, channels=3, size=32)))
    shares = rates_at(groups, Budget(0.01), allocation("ideal-gas", groups))
    numpy.testing.assert_allclose(shares, GAS[name], rtol=0.02, atol=2e-4)


def test_erk_by_hand():
    # (3 + 8 + 3 + 3) / 216 against (10 + 288) / 2880; at 20 % of 3,096 neither is capped.
    first, second = 17 / 216, 298 / 2880
    scale = 0.2 * 3096 / (17 + 298)
    shares = rates_at(units(), Budget(0.2), allocation("erk", units()))
    numpy.testing.assert_allclose(shares, [scale * first, scale * second], rtol=1e-7)


def test_erk_fills_a_layer_and_gives_the_rest_to_the_others():
    # 99 % of 3,096 is 3,065.04, and the second layer holds no more than 2,880 of them.
    shares = rates_at(units(), Budget(0.99), allocation("erk", units()))
    numpy.testing.assert_allclose(shares, [185.04 / 216, 1])


def test_lamp_is_one_threshold_on_the_scores():
    model = network()
    groups = Weights(find_sites(model))
    counts = allot(groups, Budget(0.1, floor=0.0), allocation("lamp", groups))
    scores = []
    for site in groups.sites:
        squares = site.param.detach().flatten().square().sort().values.double()
        scores.append(squares / squares.flip(0).cumsum(0).flip(0))
    kept = torch.cat(scores).sort(descending=True).values[: sum(counts.values())]
    assert list(counts.values()) == [int((score >= kept[-1]).sum()) for score in scores]


@pytest.mark.parametrize("of", ["parameters", "macs"])
@given(name=st.sampled_from(sorted(ALLOCATIONS)), keep=st.floats(0.01, 1))
def test_every_rule_meets_every_budget(name, of, keep):
    groups, budget = units(), Budget(keep, of)
    cost = groups.cost(of)
    counts = list(allot(groups, budget, allocation(name, groups)).values())
    target = budget.count(cost(groups.sizes))
    dearest = 36 if of == "macs" else 1
    assert target - dearest < cost(counts) <= target
    assert all(1 <= count <= size for count, size in zip(counts, groups.sizes, strict=True))


@given(name=st.sampled_from(sorted(ALLOCATIONS)), at=st.floats(-100, 100), more=st.floats(0, 10))
def test_no_share_falls_as_the_argument_rises(name, at, more):
    family = allocation(name, units())
    assert (family(min(at + more, 100)) >= family(at) - 1e-12).all()


def test_rates_from_a_file_keep_their_order_and_meet_the_density(tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text("0.weight: 0.6\n2.weight: 0.05\n")
    # 0.6 * 216 + 0.05 * 2880 = 273.6 of 3,096: at that density they are taken as they are.
    as_written = rates_at(units(), Budget(273.6 / 3096), allocation(str(path), units()))
    numpy.testing.assert_allclose(as_written, [0.6, 0.05], rtol=1e-6)
    thinner = allot(units(), Budget(0.01), allocation(str(path), units()))
    assert sum(thinner.values()) == 31
    assert thinner["0.weight"] / 216 > thinner["2.weight"] / 2880


def test_a_run_s_allocation_is_such_a_file(tmp_path):
    path = tmp_path / "allocation.json"
    sites = [{"name": "0.weight", "kept": 100, "size": 216}, {"name": "2.weight", "kept": 60, "size": 2880}]
    path.write_text(json.dumps({"method": "harp", "sites": sites}))
    assert allot(units(), Budget(160 / 3096), allocation(str(path), units())) == {"0.weight": 100, "2.weight": 60}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.weight: 0.6\n", "no rate for 2.weight; expected one for each of 2 layer groups"),
        (
            "0.weight: 0.6\n2.weight: 0.1\n2.weigth: 0.1\n",
            "which is no layer group here; did you mean '2.weight'",
        ),
        ("0.weight: 0.6\n2.weight: 0\n", "the rate of 2.weight is 0.0; expected a share above 0"),
        ("0.weight: 0.6\n2.weight: .nan\n", "the rate of 2.weight is nan"),
        ("- 0.6\n", "does not map names to rates"),
        ("0.weight: [\n", "does not map names to rates"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(HarpError, match=message):
        allocation(str(path), units())


@pytest.mark.parametrize(("name", "message"), [("erc", "did you mean 'erk'"), ("absent.yaml", "no file absent.yaml")])
def test_unknown_allocations(name, message):
    with pytest.raises(HarpError, match=message):
        allocation(name, units())


def test_a_budget_of_macs_needs_a_trace():
    with pytest.raises(HarpError, match="trace_macs"):
        allot(Weights(find_sites(network())), Budget(0.1, "macs"), allocation("uniform", units()))


def test_a_rate_that_float32_made_nothing_or_all_can_still_move():
    names = units().names
    shares = from_rates(units(), 0.0, dict(zip(names, (0.0, 1.0), strict=True)))(0.0)
    numpy.testing.assert_allclose(shares, [1e-7, 1 - 1e-7], rtol=1e-6)
    numpy.testing.assert_allclose(1 - shares[1], 1e-7, rtol=1e-6)


def test_kept_is_how_a_pruned_network_stands():
    model = nn.Sequential(nn.Linear(10, 4, bias=False), nn.Linear(4, 10, bias=False))
    for param, kept in zip(model.parameters(), (4, 16), strict=True):
        param.data.flatten()[kept:] = 0
    units = Weights(find_sites(model))
    counts = allot(units, Budget(0.25, floor=0), allocation("kept", units))
    assert counts == {"0.weight": 4, "1.weight": 16}

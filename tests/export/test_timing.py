"""Budgets of latency: prices of weights in the engine, and what a network costs that meets them."""

import numpy as np
import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.export import latency, timed
from harp.export.pack import small
from harp.graph import to_arrays
from harp.runtime import cycles
from harp.sparsity import Budget, Cost, Latency, Weights, allocation, allot, find_sites, find_units, top_mask
from tests.runtime.graphs import BUILT

pytestmark = pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
EXAMPLE = torch.rand(1, 3, 32, 32)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(), nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 10)).eval()


def test_a_weight_on_a_large_map_is_dearer():
    model = network()
    found = latency(model, EXAMPLE, find_sites(model), 0.3)
    first, second, third, last = found.cost.linear.tolist()
    assert first > second > third > last > 0
    assert found.whole > 0.3 * found.whole > found.cost.constant


def test_prices_hang_on_the_network_s_shape_alone():
    model, other = network(), network()
    other.get_parameter("0.weight").data.zero_()
    found = [latency(one, EXAMPLE, find_sites(one), 0.3) for one in (model, other)]
    assert found[0].whole == found[1].whole
    assert found[0].cost.linear.tolist() == found[1].cost.linear.tolist()
    assert not other.get_parameter("0.weight").any()


@pytest.mark.parametrize("keep", [0.3, 0.6])
@pytest.mark.parametrize("how", ["erk", "lamp"])
def test_a_network_within_its_budget_costs_about_that(keep, how):
    model = network()
    units = find_units(model, EXAMPLE)
    budget = timed(units, model, EXAMPLE, Budget(keep, "latency"))
    counts = allot(units, budget, allocation(how, units))
    assert isinstance(units, Weights)
    assert units.latency is not None
    whole, spent = units.latency.whole, units.cost("latency")(list(counts.values()))
    assert 0.99 * keep * whole < spent <= keep * whole + 1
    for site in units.sites:
        site.param.data *= top_mask(site.param.data.abs(), counts[site.name])
    planned = sum(cycles(to_arrays(small(model, EXAMPLE.repeat(2, 1, 1, 1)).graph)).values())
    assert planned == pytest.approx(keep * whole, rel=0.15)


def test_what_cannot_be_is_refused():
    model = network()
    units = find_units(model, EXAMPLE)
    with pytest.raises(HarpError, match=r"needs prices: set the units' latency to what harp\.latency gives"):
        units.budget(Budget(0.2, "latency"))
    cheap = Weights(units.sites)
    cheap.latency = Latency(Cost(0.0, np.ones(len(cheap.sizes))), 3.0 * sum(cheap.sizes))
    with pytest.raises(HarpError, match=r"keep: 0\.5 of the latency leaves all weights where they are"):
        cheap.budget(Budget(0.5, "latency"))
    with pytest.raises(HarpError, match=r"smallest reachable keep|less than any path"):
        timed(units, model, EXAMPLE, Budget(0.01, "latency")).floors(units.sizes, units.cost("latency"))
    odd = nn.Sequential(model, nn.Softmax(1))
    with pytest.raises(HarpError, match="PyTorch runs"):
        timed(find_units(odd, EXAMPLE), odd, EXAMPLE, Budget(0.2, "latency"))
    with pytest.raises(HarpError, match="latency is of single weights"):
        find_units(model, EXAMPLE, "channels").cost("latency")

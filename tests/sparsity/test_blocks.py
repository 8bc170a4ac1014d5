"""Rows, kernels and filters, on weights small enough to count by hand."""

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.pruners import Masked
from harp.sparsity import Blocks, Budget, Masks, allocation, allot, find_sites, find_units, top_mask, trace_macs

KINDS = ("vectors", "kernels", "filters")
IMAGE = torch.zeros(1, 2, 4, 4)


def net():
    """3 filters of 2 kernels of 3 rows of 3 weights on 4 x 4 pixels, then 48 -> 5 without kernels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 5))


def blocks(kind, model=None):
    return find_units(model or net(), IMAGE, kind)


@pytest.mark.parametrize(("kind", "shape"), [("vectors", (3, 2, 3)), ("kernels", (3, 2)), ("filters", (3,))])
def test_units_are_blocks_of_convolutions_and_single_weights_elsewhere(kind, shape):
    units = blocks(kind)
    sizes = units.magnitudes()
    assert sizes["0.weight"].shape == shape
    assert sizes["2.weight"].shape == (5, 48)
    assert units.sizes == (torch.Size(shape).numel(), 240)
    assert units.weight_counts() == [54, 240]


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_costs_its_weights_and_all_of_them_the_network(kind):
    units = blocks(kind)
    each = 54 // units.sizes[0]
    assert units.cost("parameters")([2, 7]) == 2 * each + 7
    assert units.cost("macs")([2, 7]) == 16 * 2 * each + 7
    assert units.cost("macs")(units.sizes) == sum(trace_macs(net(), IMAGE).values())


def test_a_magnitude_is_the_norm_of_the_block():
    model = net()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[1, 0, 2] = torch.tensor([2.0, -1, 2])
        model[0].weight[1, 1, 0] = torch.tensor([0.0, 4, 0])
    assert blocks("vectors", model).magnitudes()["0.weight"][1].tolist() == [[0, 0, 3], [4, 0, 0]]
    assert blocks("kernels", model).magnitudes()["0.weight"].tolist() == [[0, 0], [3, 4], [0, 0]]
    assert blocks("filters", model).magnitudes()["0.weight"].tolist() == [0, 5, 0]
    # sqrt(6 / fan_in) times 1 for the largest, as for single weights.
    assert blocks("filters", model).first_scores()["0.weight"].tolist() == pytest.approx([0, (6 / 18) ** 0.5, 0])


def test_a_transposed_convolution_has_its_filters_on_the_other_axis():
    model = nn.ConvTranspose2d(2, 3, 2)
    units = Blocks(find_sites(model), "filters")
    assert units.sizes == (3,)
    masks = units.by_site({"weight": torch.tensor([True, False, True])})
    assert masks["weight"].shape == (2, 3, 2, 2)
    assert masks["weight"].all(3).all(2).tolist() == [[True, False, True]] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_mask_is_the_sum_over_its_block(kind):
    units = blocks(kind)
    dense = {site.name: site.param.detach() for site in units.sites}
    masks = {name: torch.ones_like(size, requires_grad=True) for name, size in units.magnitudes().items()}
    sum(weight.square().sum() for weight in units.effective(dense, masks)).backward()
    for name, size in units.magnitudes().items():
        grad = masks[name].grad
        assert grad is not None
        assert torch.allclose(grad, 2 * size.square(), atol=1e-6)


@given(kind=st.sampled_from(KINDS), keep=st.floats(0.12, 1), rule=st.sampled_from(["uniform", "erk", "lamp", "global"]))
def test_a_budget_is_met_to_the_weight_where_single_weights_fill_it_up(kind, keep, rule):
    units, budget = blocks(kind), Budget(keep, floor=0.0)
    counts = allot(units, budget, allocation(rule, units))
    chosen = {name: top_mask(size, counts[name]) for name, size in units.magnitudes().items()}
    kept = units.by_site(chosen).kept
    spare = budget.count(294) - kept
    assert spare >= 0
    assert spare == 0 or counts["2.weight"] == 240
    assert all(count >= 1 for count in counts.values())


def test_spread_masks_fit_the_network_and_ones_over_units_do_not():
    model = net()
    units = blocks("kernels", model)
    chosen = {name: top_mask(size, 2) for name, size in units.magnitudes().items()}
    masks = Masked(units.sites, units.by_site(chosen)).settle()
    assert masks.counts == {"0.weight": 18, "2.weight": 2}
    with pytest.raises(HarpError, match="not those of this model"):
        Masked(units.sites, Masks(chosen))


def test_a_network_without_kernels_is_refused():
    with pytest.raises(HarpError, match="granularity filters is for convolutions"):
        Blocks(find_sites(nn.Linear(3, 2)), "filters")
    with pytest.raises(HarpError, match="needs the cost of each layer"):
        Blocks(find_sites(net()), "kernels").cost("macs")

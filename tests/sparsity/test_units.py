"""Units and their prices, on networks small enough to count by hand."""

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.sparsity import Budget, ChannelUnits, Weights, find_channels, find_sites, find_units, trace_macs, units_of

IMAGE = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def chain():
    """3 -> 4 -> 6 channels on 4 x 4 pixels, then 96 -> 5."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)),
    )


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.inner = nn.Conv2d(4, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))


def test_a_channel_costs_what_makes_it_and_what_reads_it():
    units = find_units(chain(), IMAGE, "channels")
    assert (units.names, units.sizes) == (("0.weight", "3.weight"), (4, 6))
    # u channels, then v: 9 * 3 u + 9 u v + 16 * 5 v weights; the convolutions are used at 16 pixels.
    assert units.cost("parameters")([3, 5]) == 27 * 3 + 9 * 15 + 80 * 5
    assert units.cost("macs")([3, 5]) == 16 * (27 * 3 + 9 * 15) + 80 * 5
    assert units.cost("macs")([4, 6]) == sum(trace_macs(chain(), IMAGE).values())
    assert units.weight_counts() == [9 * 4 * 6, 80 * 6]


def test_tied_channels_are_one_pool():
    units = find_units(Residual(), IMAGE, "channels")
    assert dict(zip(units.names, units.sizes, strict=True)) == {"stem.weight": 4, "inner.weight": 6}
    # s in the stream, i inside the block: 3 s + 9 s i + 9 i s + 5 s.
    assert units.cost("parameters")([2, 3]) == 3 * 2 + 18 * 6 + 5 * 2


def test_a_mask_silences_a_channel_where_it_is_read():
    model = chain()
    units = find_units(model, IMAGE, "channels")
    masks = {"0.weight": torch.tensor([True, False, True, True]), "3.weight": torch.arange(6) != 2}
    dense = {site.name: site.param.detach() for site in units.sites}
    second, last = units.effective(dense, masks)
    assert [site.name for site in units.sites] == ["3.weight", "6.weight"]
    assert not second[:, 1].any()
    assert torch.equal(second[:, [0, 2, 3]], dense["3.weight"][:, [0, 2, 3]])
    assert not last[:, 32:48].any()
    assert int((last != 0).sum()) == 5 * 80


def test_a_mask_gets_the_gradient_of_all_that_reads_it():
    model = Residual()
    units = find_units(model, IMAGE, "channels")
    dense = {site.name: site.param.detach() for site in units.sites}
    masks = {name: torch.ones(size, requires_grad=True) for name, size in zip(units.names, units.sizes, strict=True)}
    grads = [torch.randn(site.param.shape, generator=torch.Generator().manual_seed(1)) for site in units.sites]
    torch.autograd.backward(units.effective(dense, masks), grads)
    products = {site.name: dense[site.name] * grad for site, grad in zip(units.sites, grads, strict=True)}
    stream = products["inner.weight"].sum((0, 2, 3)) + products["head.weight"].sum(0)
    torch.testing.assert_close(masks["stem.weight"].grad, stream)
    torch.testing.assert_close(masks["inner.weight"].grad, products["outer.weight"].sum((0, 2, 3)))


def test_scores_of_channels_begin_as_norms_of_what_reads_them():
    model = Residual()
    scores = find_units(model, IMAGE, "channels").first_scores()
    norms = (model.inner.weight.square().sum((0, 2, 3)) + model.head.weight.square().sum(0)).sqrt()
    torch.testing.assert_close(scores["stem.weight"], (6 / 4) ** 0.5 * norms / norms.max())


def test_channels_of_weights_that_are_not_selected_stay():
    model = Residual()
    units = find_units(model, IMAGE, "channels", find_sites(model, exclude=["head"]))
    assert units.names == ("inner.weight",)
    with pytest.raises(HarpError, match=r"no channels that can be removed.*inner\.weight is not selected"):
        find_units(model, IMAGE, "channels", find_sites(model, exclude=["inner", "head"]))


def test_bare_sites_are_units_of_single_weights():
    sites = find_sites(chain())
    assert units_of(sites).sizes == (108, 216, 480)
    units = Weights(sites)
    assert units_of(units) is units


def test_prices_in_macs_need_a_trace():
    model = chain()
    for units in (Weights(find_sites(model)), ChannelUnits(model, find_channels(model, IMAGE), find_sites(model))):
        assert units.cost("parameters")(units.sizes) == 804
        with pytest.raises(HarpError, match="trace_macs"):
            units.cost("macs")


def test_a_channel_budget_below_one_unit_a_pool_names_the_smallest_reachable():
    units = find_units(chain(), IMAGE, "channels")
    cost = units.cost("parameters")
    # One channel each: 27 + 9 + 80 of 804.
    with pytest.raises(HarpError, match=r"smallest reachable keep is 0\.14427 \(116 parameters\)"):
        Budget(0.1).floors(units.sizes, cost)
    assert Budget(0.14427).floors(units.sizes, cost) == [1, 1]

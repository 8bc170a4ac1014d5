"""Exact budgets and physically smaller networks, of architectures nobody here wrote."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harp.pruners import Course, Harp, HarpOptions, Masked, Moment, ScoresOnly
from harp.sparsity import Budget, ChannelUnits, find_sites, find_units, remove
from tests.foreign import FOREIGN, images, varies
from tests.pace import quick

# Half of the MACs is not to be had from attention's heads and streams under LayerNorm, so not from ViT and Swin.
SHRINK = [name for name in FOREIGN if name not in ("vit", "swin")]


@pytest.mark.parametrize("keep", [0.1, 0.01])
@pytest.mark.parametrize("name", FOREIGN)
def test_harp_meets_the_budget_to_the_weight_and_the_network_still_runs(name, keep):
    model = FOREIGN[name]().eval()
    sites = find_sites(model)
    total = sum(site.size for site in sites)
    search = Harp(sites, Budget(keep), options=HarpOptions(mode="exact"), course=Course(1, 1))
    search.push(Moment(0))
    model(images()).logsumexp(1).sum().backward()
    search.pull()
    assert search.logits.grad is not None
    assert search.logits.grad.isfinite().all()
    masks = search.settle()
    Masked(sites, masks).push(Moment(0))

    weights = [model.state_dict()[name] for name in masks]
    # A network may hold zeros of its own; a kept one counts as kept.
    assert sum(int(weight.count_nonzero()) for weight in weights) <= masks.kept == round(keep * total)
    assert total > 0.9 * sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad():
        assert model(images()).isfinite().all()


@pytest.mark.parametrize("name", quick(["convnext", "mobilenet_v2"], SHRINK))
def test_convolutional_networks_shrink_to_half_their_macs_with_equal_logits(name):
    model = FOREIGN[name]().eval()
    assert varies(model)
    units = find_units(model, images(1), "channels")
    budget, cost = Budget(0.5, "macs"), units.cost("macs")
    search = ScoresOnly(units, budget)
    masks = search.settle()
    assert isinstance(units, ChannelUnits)
    small = remove(model, units.groups, masks)
    with torch.no_grad():
        masked, smaller = model(images()), small(images())
    torch.testing.assert_close(smaller, masked, rtol=0, atol=1e-5 * float(masked.abs().max()))

    def counted(network):
        """What torch counts itself, less the products of activations, which no weight's budget covers."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images(1))
        flops = counter.get_flop_counts()["Global"]
        return (
            sum(
                n for operation, n in flops.items() if "bmm" not in str(operation) and "attention" not in str(operation)
            )
            // 2
        )

    spent = cost([masks.counts[group] for group in units.names])
    allowed = budget.count(cost(units.sizes))
    dearest = sum(cost.step(units.sizes, group, -1) for group in range(len(units.sizes)))
    assert counted(model) == cost(units.sizes)
    assert counted(small) == spent <= allowed < spent - dearest

import copy

import pytest
import torch
from torch import nn

from harp.pruners import Course, Cyclic, CyclicOptions, Moment
from harp.sparsity import Budget, find_sites


def cyclic(steps=40, keep=0.1, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 20, bias=False))
    pruner = Cyclic(
        find_sites(model), Budget(keep), options=CyclicOptions(every="1it", **options), course=Course(4, steps)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner.push(Moment(0, optimizer))
    return model, pruner, optimizer


def train(model, pruner, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        model(torch.rand(8, 20)).square().sum().backward()
        pruner.pull()
        optimizer.step()
        pruner.push(Moment(step, optimizer))
        yield pruner.chosen.kept


def test_the_density_swings_up_to_thrice_and_back():
    """METHODS 9.7's example: at d .001 the quarters of a cycle are .001, .002, .003, .002, .001."""
    _, pruner, _ = cyclic(steps=40, cycles=1, swing=0.1)
    assert [0.001 * pruner.density(step) for step in range(5)] == pytest.approx([0.001, 0.002, 0.003, 0.002, 0.001])
    _, twice, _ = cyclic(steps=20, cycles=2, swing=0.4)
    assert [twice.density(step) for step in (0, 2, 4, 6, 8, 19)] == pytest.approx([1, 3, 1, 3, 1, 1])


def test_masks_follow_the_density_and_stay_at_the_budget_afterwards():
    model, pruner, optimizer = cyclic(steps=40, cycles=1, swing=0.2)
    kept = list(train(model, pruner, optimizer, range(1, 21)))
    assert kept[:8] == [round(0.1 * pruner.density(step) * 1200) for step in range(1, 9)]
    assert max(kept) == 360
    assert kept[7:] == [120] * 13
    assert pruner.settle().kept == 120


def test_what_is_looked_at_in_a_cycle_meets_the_budget_and_training_goes_on_as_it_was():
    model, pruner, optimizer = cyclic(steps=40, cycles=1, swing=0.2)
    assert list(train(model, pruner, optimizer, range(1, 5)))[-1] == 360
    before = [param.detach().clone() for param in model.parameters()]
    with pruner.settled():
        assert sum(int(param.count_nonzero()) for param in model.parameters()) <= 120
        assert pruner.chosen.kept == 120
    assert pruner.chosen.kept == 360
    assert all(torch.equal(param, old) for param, old in zip(model.parameters(), before, strict=True))


def test_a_resumed_search_goes_on_bit_for_bit():
    model, pruner, optimizer = cyclic(steps=12, cycles=1, swing=0.5)
    list(train(model, pruner, optimizer, range(1, 4)))
    other, again, second = cyclic(steps=12, cycles=1, swing=0.5)
    other.load_state_dict(model.state_dict())
    again.load_state_dict(pruner.state_dict())
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again.push(Moment(3, second))
    for one, what, who in ((model, pruner, optimizer), (other, again, second)):
        torch.manual_seed(1)
        list(train(one, what, who, range(4, 12)))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))

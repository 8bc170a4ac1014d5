"""Chord: what stays learns along with scores and rates, what goes keeps its value until it comes back."""

import pytest
import torch
from torch import nn

import harp
from harp.errors import HarpError
from harp.pruners import Chord, ChordOptions, Course, Moment
from harp.sparsity import Budget, find_sites, find_units

WEIGHTS = [4.0, -3.0, 2.0, 1.0]


def made(**options):
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([WEIGHTS]))
    pruner = Chord(find_sites(model), Budget(0.5, floor=0), options=ChordOptions(**options), course=Course(1, 4))
    return model, pruner


def test_what_stays_learns_by_a_tenth_of_the_rate_and_scores_by_all_of_it():
    model, pruner = made()
    optimizer = harp.sgd(model, pruner, lr=0.1, momentum=0, weight_decay=0)
    pruner.push(Moment(0, optimizer))
    assert model.weight.tolist() == [[4, -3, 0, 0]]
    scores = next(iter(pruner.scores.values()))
    before = scores.detach().clone()
    model.weight.grad = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    pruner.pull()
    optimizer.step()
    pruner.push(Moment(1, optimizer))
    # A weight's gradient is the network's where it stays, and 0 where it does not: a hundredth of it is taken off.
    assert pruner.latent["weight"].tolist() == [pytest.approx([3.99, -3.01, 2, 1])]
    # A score's is the network's times the weight, with the score's sign: a tenth of it is taken off.
    change = (scores - before).flatten().tolist()
    assert change == pytest.approx([-0.1 * w * (1 if w > 0 else -1) for w in WEIGHTS])


def test_what_was_pruned_comes_back_with_the_value_it_had():
    model, pruner = made()
    pruner.push(Moment(0))
    with torch.no_grad():
        pruner.latent["weight"][0, 0] = 5.0
        next(iter(pruner.scores.values()))[0, 2] = 9.0
    pruner.push(Moment(1))
    assert model.weight.tolist() == [[5, 0, 2, 0]]
    assert pruner.settle().counts == {"weight": 2}
    assert model.weight.tolist() == [[5, 0, 2, 0]]


def test_the_budget_falls_to_its_end_and_is_met_on_the_way():
    _, pruner = made(start_keep=1.0)
    assert (pruner.options.mode, pruner.estimator) == ("exact", "marginal")
    counts = []
    for step in range(4):
        pruner.push(Moment(step))
        counts.append(pruner.counts()["weight"])
    # 0.5 + 0.5 (1 - step / 2.4)^3 of four weights: 4, 2.4, 2.01, 2.
    assert counts == [4, 2, 2, 2]


def test_a_state_brings_the_weights_back():
    model, pruner = made()
    with torch.no_grad():
        pruner.latent["weight"].mul_(2)
    pruner.push(Moment(0))
    other, again = made()
    again.load_state_dict(pruner.state_dict())
    other.load_state_dict(model.state_dict())
    again.push(Moment(1))
    assert other.weight.tolist() == [[8, -6, 0, 0]]
    assert again.trainables()["weights"].params == list(again.latent.values())


def test_channels_learn_along_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    units = find_units(model, torch.rand(2, 1, 4, 4), "channels")
    pruner = Chord(units, Budget(0.5, "macs"), course=Course(1, 2))
    pruner.push(Moment(0))
    model(torch.rand(2, 1, 4, 4)).square().sum().backward()
    pruner.pull()
    for latent in pruner.latent.values():
        assert latent.grad is not None
        assert 0 < (latent.grad != 0).sum() < latent.numel()


def test_a_frozen_weight_is_refused_and_left_frozen():
    model = nn.Linear(4, 1)
    model.weight.requires_grad_(False)
    with pytest.raises(HarpError, match="weight is frozen, and chord trains it"):
        Chord(find_sites(model, include=["weight"]), Budget(0.5), course=Course(1, 4))
    assert not model.weight.requires_grad

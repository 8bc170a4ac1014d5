"""Budgets of 10 of 1,000 weights in layer groups of 600 and 400."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from harp.pruners import Course, Harp, HarpOptions, Hydra, Moment, RatesOnly, SearchWarning
from harp.pruners.endings import THROWN, at_the_floor, off_budget, thrown
from harp.sparsity import Budget, Weights, find_sites

BUDGET = Budget(0.01)


# Held here, because a pruner whose network is gone has nothing to write to.
NETWORK = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 20))
DENSE = copy.deepcopy(NETWORK.state_dict())


def sites():
    NETWORK.load_state_dict(DENSE)
    return find_sites(NETWORK)


def units():
    return Weights(sites())


def counts(*values):
    return dict(zip(("0.weight", "1.weight"), values, strict=True))


@pytest.mark.parametrize(
    ("density", "stood"),
    [
        (0.01, (6, 4)),
        (0.0101, (7, 4)),  # rounded up
        (0.0096, (6, 4)),
        (0.02, (6, 4)),
        (0.005, (6, 4)),  # the next forward pass has all that is allowed
        (0.0096, (7, 5)),
        (0.012, (5, 4)),
    ],
)
def test_what_is_on_budget_by_either_measure_is_no_news(density, stood):
    assert off_budget(units(), BUDGET, density, counts(*stood), counts(6, 4)) == []


def test_above_and_below_are_told_with_what_settle_does():
    (above,) = off_budget(units(), BUDGET, 0.02, counts(12, 9), counts(7, 3))
    assert above == (
        "the chosen rates stood at 2.00 times the budget; settle cut the masks to it, by 11 weights that the network "
        "was trained with"
    )
    (below,) = off_budget(units(), BUDGET, 0.005, counts(2, 3), counts(4, 6))
    assert below == (
        "the chosen rates stood at 0.50 times the budget; settle filled it up with 5 weights that the network was "
        "trained without, so judge it after fine-tuning; a smaller gamma ends nearer, mode exact at the budget"
    )


def test_rates_at_the_floor_are_told_by_name():
    assert at_the_floor(units(), BUDGET, [0.0112, 0.01]) == []
    (one,) = at_the_floor(units(), BUDGET, [0.016, 0.00109])
    assert one == (
        "1 of 2 learned rates collapsed to 0.0011 or less, where they hardly move, so that little passes through "
        "1.weight; a smaller gamma or a larger floor holds them up"
    )
    (all_,) = at_the_floor(units(), BUDGET, [0.001, 0.001])
    assert all_.startswith("2 of 2 learned rates collapsed")
    assert "0.weight, 1.weight" in all_
    # Without a floor it is a hundredth of the fair share; with one near the budget, nothing.
    assert at_the_floor(units(), Budget(0.01, floor=0.0), [0.016, 0.0002]) == []
    assert at_the_floor(units(), Budget(0.01, floor=0.0), [0.016, 0.0001]) != []
    assert at_the_floor(units(), Budget(0.01, floor=1.0), [0.01, 0.01]) == []


def test_of_many_three_are_named():
    model = nn.Sequential(*[nn.Linear(10, 10) for _ in range(5)])
    (told,) = at_the_floor(Weights(find_sites(model)), BUDGET, [0.0] * 5)
    assert "5 of 5" in told
    assert "0.weight, 1.weight, 2.weight and 2 more;" in told


def search(kind=Harp, rates=(0.01, 0.01), **options):
    pruner = kind(sites(), BUDGET, options=HarpOptions(**options), course=Course(1))
    with torch.no_grad():
        for number, rate in enumerate(rates):
            share = (rate - 0.001) / 0.999
            pruner.logits[number] = math.log(share / (1 - share))
    return pruner


@pytest.mark.parametrize("kind", [Harp, RatesOnly])
@pytest.mark.parametrize(
    ("rates", "begun"),
    [
        ((0.02, 0.03), ["the chosen rates stood at 2.40 times the budget; settle cut the masks to it, by 14 weights"]),
        (
            (0.0035, 0.0024),
            ["the chosen rates stood at 0.40 times the budget; settle filled it up with 6 weights"],
        ),
        ((0.0155, 0.00105), ["1 of 2 learned rates collapsed to 0.0011 or less"]),
    ],
)
def test_settle_says_it_and_settled_does_not(kind, rates, begun):
    pruner = search(kind, rates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pruner.settled():
            pass
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        masks = pruner.settle()
    assert masks.kept == 10
    assert [warning.category for warning in heard] == [SearchWarning] * len(begun)
    for warning, beginning in zip(heard, begun, strict=True):
        assert str(warning.message).startswith(beginning)
        assert warning.filename == __file__


def test_searches_that_end_where_they_should_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search().settle()
        Hydra(sites(), BUDGET).settle()
        exact = Harp(sites(), BUDGET, options=HarpOptions(mode="exact"), course=Course(1, 10))
        exact.push(Moment(10))
        exact.settle()


def test_an_exact_search_that_was_cut_short_stands_above_its_budget():
    pruner = Harp(sites(), BUDGET, options=HarpOptions(mode="exact"), course=Course(1, 10))
    pruner.push(Moment(3))  # half of the ramp of six steps: 10 + 90 / 8 weights
    with pytest.warns(SearchWarning, match=r"stood at 2\.1\d times the budget; settle cut .*, by 11 weights"):
        pruner.settle()


def test_rates_that_were_thrown_are_told_with_the_first_step():
    assert thrown(units(), [-1, -1]) == []
    (told,) = thrown(units(), [-1, 71])
    assert told == (
        "step 71 threw up the learned rates of 1.weight; channels that keep nothing often do, whose gradients under a "
        "batch norm are hundreds of times too large; where the search does not come back from that, gradients clipped "
        "to 1 (clip) help"
    )
    assert thrown(units(), [9, 71])[0].startswith("step 9 threw up the learned rates of 0.weight, 1.weight;")


def step(pruner, number, rise):
    """A step of an optimizer that raises the second rate's logit by `rise`."""
    pruner.pull()
    with torch.no_grad():
        pruner.logits[1] += rise
    pruner.push(Moment(number))


def test_a_search_notes_what_throws_a_rate_and_still_knows_it_at_an_earlier_state():
    pruner = Harp(sites(), BUDGET, course=Course(5))
    pruner.push(Moment(0))
    step(pruner, 1, 0.9 * THROWN)
    state = copy.deepcopy(pruner.state_dict())
    assert not any("threw" in note for note in pruner.notes())
    step(pruner, 2, 1.1 * THROWN)
    step(pruner, 3, 1.1 * THROWN)
    (told,) = [note for note in pruner.notes() if "threw" in note]
    assert told.startswith("step 2 threw up the learned rates of 1.weight;")
    later = copy.deepcopy(pruner.state_dict())
    pruner.load_state_dict(state)
    assert told in pruner.notes()
    # A search that goes on elsewhere is told by its state.
    other = Harp(sites(), BUDGET, course=Course(5))
    other.load_state_dict(later)
    assert told in other.notes()


def test_under_a_batch_norm_a_channel_that_keeps_nothing_pulls_far_harder():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, padding=1, bias=False)
    model = nn.Sequential(layer, nn.BatchNorm2d(8), nn.Flatten())
    pruner = Hydra(find_sites(model), Budget(0.5))
    score = pruner.scores["0.weight"]
    with torch.no_grad():
        score[0] *= 1e-6
    pruner.push(Moment(0))
    (model(torch.randn(16, 4, 8, 8)) * torch.linspace(-1, 1, 512)).sum().backward()
    pruner.pull()
    assert score.grad is not None
    assert not layer.weight[0].any()
    pulls = score.grad.flatten(1).norm(dim=1)
    assert pulls[0] > 50 * pulls[1:].max()

"""Averages of weights and statistics by hand, and that looking at them leaves training as it was."""

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.objectives import Natural
from harp.pruners import Moment, Pruner
from harp.sparsity import find_sites
from harp.training import Average, fit, sgd


def averaging(model, decay):
    pruner = Pruner(find_sites(model))
    optimizer = sgd(model, pruner, lr=0.1)
    return Average(model, pruner, optimizer, decay), Moment(1, optimizer)


def test_of_1_2_and_3_a_tenth_at_a_time_is_1_point_29():
    """METHODS 9.1."""
    model = nn.Linear(2, 1)
    average, moment = averaging(model, 0.9)
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(model.weight, value)
        average(moment)
    average.adopt(moment)
    assert model.weight.tolist() == [pytest.approx([1.29, 1.29])]


def test_running_statistics_are_averaged_as_weights_are():
    norm = nn.BatchNorm2d(1)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), norm, nn.Flatten(), nn.Linear(1, 2))
    average, moment = averaging(model, 0.75)
    for value in (0.0, 4.0):
        norm.load_state_dict({**norm.state_dict(), "running_mean": torch.tensor([value])})
        average(moment)
    average.adopt(moment)
    assert norm.state_dict()["running_mean"].item() == 1
    assert norm.state_dict()["running_var"].item() == 1


def test_afterwards_the_model_is_as_before():
    model = nn.Linear(2, 1)
    average, moment = averaging(model, 0.5)
    for value in (1.0, 2.0):
        nn.init.constant_(model.weight, value)
        average(moment)
    with average.adopted(moment):
        assert model.weight.tolist() == [[1.5, 1.5]]
    assert model.weight.tolist() == [[2, 2]]


def test_before_the_first_step_there_is_nothing_to_adopt():
    model = nn.Linear(2, 1)
    average, moment = averaging(model, 0.5)
    before = model.weight.clone()
    average.adopt(moment)
    assert torch.equal(model.weight, before)
    assert average.state_dict() == {}


def test_it_goes_on_from_its_state():
    model = nn.Linear(2, 1)
    average, moment = averaging(model, 0.5)
    average(moment)
    again, _ = averaging(model, 0.5)
    again.load_state_dict(average.state_dict())
    nn.init.constant_(model.weight, 5.0)
    average(moment)
    again(moment)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in average.state_dict().items())


def test_the_state_of_another_network_is_refused():
    average, moment = averaging(nn.Linear(2, 1), 0.5)
    average(moment)
    other, _ = averaging(nn.Linear(3, 1), 0.5)
    with pytest.raises(HarpError, match="another network"):
        other.load_state_dict(average.state_dict())


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_another_share_is_refused(decay):
    with pytest.raises(HarpError, match=r"average is .*; expected a share above 0 and below 1"):
        averaging(nn.Linear(2, 1), decay)


def test_it_is_a_callback_of_fit():
    linear = nn.Linear(64, 10)
    model = nn.Sequential(nn.Flatten(), linear)
    data = [(torch.rand(8, 1, 8, 8), torch.arange(8)) for _ in range(3)]
    pruner = Pruner(find_sites(model))
    optimizer = sgd(model, pruner, lr=0.1)
    average, seen = Average(model, pruner, optimizer, 0.5), []

    def look(moment):
        seen.append(linear.weight.detach().clone())

    fit(model, data, objective=Natural(), optimizer=optimizer, pruner=pruner, until=3, on=[average, look])
    average.adopt(Moment(3, optimizer))
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    torch.testing.assert_close(linear.weight.detach(), expected)

import torch
from torch import nn

from harp.pruners import Course, Li20, Moment, Options
from harp.sparsity import Budget, find_sites


def network():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(3, 1))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[0.1, -0.3]]))
        model.get_parameter("1.weight").copy_(torch.tensor([[1.0, 2.0, -3.0]]))
    return model


def test_weights_are_ranked_over_their_layers_mean():
    """Normalised (.5, 1.5) and (.5, 1, 1.5): raw magnitude would keep the second layer's two largest."""
    model = network()
    pruner = Li20(find_sites(model), Budget(0.4, floor=0.0))
    pruner.push(Moment(0))
    masks = pruner.settle()
    assert [mask.int().tolist() for mask in masks.values()] == [[[0, 1]], [[0, 0, 1]]]
    assert model.get_parameter("1.weight")[0].tolist() == [0, 0, -3]


def test_it_cuts_at_once_and_meets_the_budget():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
    assert Li20(find_sites(model), Budget(0.1)).settle().kept == round(0.1 * 750)
    assert Li20.steps(Options(), Course(10, 100)) == 0

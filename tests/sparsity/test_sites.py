import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.sparsity import find_sites


def names(model):
    return [site.name for site in find_sites(model)]


def test_convolutions_and_linear_layers_are_sites_and_nothing_else_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2))
    sites = find_sites(model)
    assert [site.name for site in sites] == ["0.weight", "3.weight"]
    assert [site.size for site in sites] == [108, 8]
    assert sites[0].param is model[0].weight


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 3, 1), nn.Conv2d(2, 3, 1), nn.Conv3d(2, 3, 1), nn.Linear(2, 3)])
def test_axes_of_outputs_and_inputs(layer):
    (site,) = find_sites(layer)
    assert site.name == "weight"
    assert site.param.shape[site.out_axis] == 3
    assert site.param.shape[site.in_axis] == 2


def test_names_are_those_of_the_state_dictionary():
    model = nn.ModuleDict({"stem": nn.Conv2d(1, 2, 1), "body": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    assert names(model) == ["stem.weight", "body.0.weight", "body.1.weight"]
    state = model.state_dict(keep_vars=True)
    assert all(state[site.name] is site.param for site in find_sites(model))


def test_a_tied_weight_is_one_site():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert names(model) == ["0.weight"]


def test_a_module_used_twice_is_one_site():
    layer = nn.Linear(2, 2)
    assert names(nn.Sequential(layer, nn.ReLU(), layer)) == ["0.weight"]


def test_a_frozen_weight_is_a_site():
    assert names(nn.Linear(2, 2).requires_grad_(False)) == ["weight"]


def test_nothing_to_prune_is_a_mistake():
    with pytest.raises(HarpError, match="BatchNorm1d has no convolution or linear layer to prune"):
        find_sites(nn.BatchNorm1d(3))


def test_finding_sites_changes_nothing():
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    find_sites(model)
    assert torch.equal(model.weight, before)
    assert model.weight.grad is None

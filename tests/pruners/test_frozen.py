"""Frozen weights: nobody's affair unless selected by name, and then pruned without being trained."""

import pytest
import torch
from torch import nn

from harp.data import Loader
from harp.objectives import Natural
from harp.pruners import Course, Harp, HarpOptions, Masked, Pruner, ScoresOnly
from harp.sparsity import Budget, find_sites
from harp.training import fit, sgd

DATA = [(torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])) for _ in range(2)]


def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    return model


def trained(model, pruner):
    optimizer = sgd(model, pruner, lr=0.1)
    fit(model, Loader(DATA, "cpu"), objective=Natural(), optimizer=optimizer, pruner=pruner, until=3)
    return pruner


METHODS = {
    "harp": lambda sites: Harp(sites, Budget(0.3), options=HarpOptions(gamma=0.1), course=Course(2)),
    "scores-only": lambda sites: ScoresOnly(sites, Budget(0.3)),
    "masked": lambda sites: Masked(sites, ScoresOnly(sites, Budget(0.3)).settle()),
    "dense": lambda sites: Pruner(sites),
}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_frozen_never_changes(method):
    model = net()
    before = {name: param.detach().clone() for name, param in model.named_parameters() if not param.requires_grad}
    pruner = trained(model, METHODS[method](find_sites(model)))
    if method != "dense":
        trained(model, Masked(pruner.sites, pruner.settle()))
    assert list(before) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert all(torch.equal(model.get_parameter(name), value) for name, value in before.items())


def test_a_frozen_weight_selected_by_name_is_chosen_by_its_gradient_and_keeps_its_values():
    model = net()
    dense = model[0].weight.detach().clone()
    search = METHODS["harp"](find_sites(model, ["0", "4"]))
    assert isinstance(search, Harp)
    first = search.scores["0.weight"].detach().clone()
    trained(model, search)
    assert (search.scores["0.weight"] != first).any()
    assert model[0].weight.requires_grad
    masks = search.settle()
    assert not model[0].weight.requires_grad
    trained(model, Masked(search.sites, masks))
    assert torch.equal(model[0].weight, dense * masks["0.weight"])

import math

import torch
from torch import nn

from harp.data import Loader
from harp.objectives import Natural
from harp.pruners import RST, Course, Moment
from harp.sparsity import Budget, find_sites, find_units
from harp.training import fit, sgd


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        nn.Linear(16, 3),
    )


def test_the_largest_scores_keep_weights_of_one_size_and_their_signs():
    """METHODS 2.11: scores (.3, -.7, .1, -.2) at one half keep the first two; .2722 at fan_in 27."""
    layer = nn.Linear(27, 4, bias=False)
    pruner = RST(find_sites(layer), Budget(0.5))
    size = 0.272166
    assert torch.allclose(pruner.dense["weight"], size * layer.weight.sign())
    scores = torch.zeros(4, 27)
    scores[:, 0] = torch.tensor([0.3, -0.7, 0.1, -0.2])
    with torch.no_grad():
        pruner.scores["weight"].copy_(scores)
    layer = nn.Linear(1, 4, bias=False)
    pruner = RST(find_sites(layer), Budget(0.5))
    signs = layer.weight.sign()
    with torch.no_grad():
        pruner.scores["weight"].copy_(torch.tensor([[0.3], [-0.7], [0.1], [-0.2]]))
    assert pruner.settle()["weight"].flatten().tolist() == [True, True, False, False]
    assert torch.equal(layer.weight[:2], math.sqrt(2) * signs[:2])
    assert not layer.weight[2:].any()


def test_scores_begin_at_random_within_their_bound_and_repeat():
    model = network()
    pruners = [RST(find_sites(model), Budget(0.5), course=Course(1, seed=seed)) for seed in (0, 0, 1)]
    score = pruners[0].scores["0.weight"]
    assert 0.9 / math.sqrt(27) < float(score.detach().abs().max()) <= 1 / math.sqrt(27)
    assert torch.equal(score, pruners[1].scores["0.weight"])
    assert not torch.equal(score, pruners[2].scores["0.weight"])


def test_zeros_get_signs_drawn():
    layer = nn.Linear(50, 2, bias=False)
    nn.init.zeros_(layer.weight)
    dense = RST(find_sites(layer), Budget(0.5)).dense["weight"]
    assert torch.allclose(dense.abs(), torch.full_like(dense, 0.2))
    assert 20 < int((dense > 0).sum()) < 80


def test_nothing_but_scores_trains():
    model = network()
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    pruner = RST(find_sites(model), Budget(0.5))
    first = {name: score.detach().clone() for name, score in pruner.scores.items()}
    data = Loader([(torch.rand(8, 3, 4, 4), torch.arange(8) % 3)], "cpu")
    optimizer = sgd(model, pruner, lr=0.1)
    assert [group["role"] for group in optimizer.param_groups] == ["scores"]
    fit(model, data, objective=Natural(), optimizer=optimizer, pruner=pruner, until=3)
    assert all(torch.equal(model.get_parameter(name), before[name]) for name in ("0.bias", "1.weight", "1.bias"))
    assert all((pruner.scores[name] != score).any() for name, score in first.items())
    masks = pruner.settle()
    assert masks.counts == {"0.weight": 54, "4.weight": 24}
    for name, fan_in in (("0.weight", 27), ("4.weight", 16)):
        expected = math.sqrt(2 / fan_in) * before[name].sign() * masks[name]
        assert torch.allclose(model.get_parameter(name), expected)


def test_channels_have_scores_of_their_own():
    model = network()
    pruner = RST(find_units(model, torch.rand(1, 3, 4, 4), "channels"), Budget(0.5, "macs"))
    (score,) = pruner.scores.values()
    assert float(score.detach().abs().max()) <= 0.5
    pruner.push(Moment(0))
    assert pruner.settle().kept == 2

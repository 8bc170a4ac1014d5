import math

import torch
from torch import nn

from harp.pruners import Hydra, Moment
from harp.pruners.straight_through import top_share
from harp.sparsity import Budget, find_sites


def test_the_gradient_passes_straight_through():
    score = torch.tensor([0.5, -3.0, 1.0, -0.1], requires_grad=True)
    rate = torch.tensor(0.5, requires_grad=True)
    mask = top_share(score, rate, 2)
    assert mask.tolist() == [0, 1, 1, 0]
    grad = torch.tensor([1.0, 2.0, 3.0, 4.0])
    mask.backward(grad)
    # |score| gets the mask's gradient as it is, kept or not, so score gets it times its sign.
    assert score.grad is not None
    assert score.grad.tolist() == [1, -2, 3, -4]
    # The rate gets the sum over the whole layer: HARP's published estimator.
    assert rate.grad == 10


def test_scores_begin_as_scaled_weights():
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.25, 4.0, -1.0]]))
    pruner = Hydra(find_sites(layer), Budget(0.5))
    expected = math.sqrt(6 / 3) * layer.weight / 4
    assert torch.allclose(pruner.scores["weight"], expected)


def test_all_zero_weights_have_zero_scores():
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    assert not Hydra(find_sites(layer), Budget(0.5)).scores["weight"].any()


def test_pulled_gradients_equal_the_form_inside_the_graph():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 4, bias=False), torch.randn(5, 8)
    pruner = Hydra(find_sites(layer), Budget(0.25))
    score = pruner.scores["weight"]
    pruner.push(Moment(0))
    layer(x).pow(2).sum().backward()
    pruner.pull()

    twin = score.detach().clone().requires_grad_()
    weight = pruner.dense["weight"] * top_share(twin, torch.tensor(0.25), 8)
    nn.functional.linear(x, weight).pow(2).sum().backward()
    torch.testing.assert_close(score.grad, twin.grad)


def test_within_settled_the_model_is_the_pruned_network_and_afterwards_as_before():
    layer = nn.Linear(8, 4)
    pruner = Hydra(find_sites(layer), Budget(0.25))
    before = layer.weight.detach().clone()
    with pruner.settled():
        assert int(layer.weight.count_nonzero()) == 8
    assert torch.equal(layer.weight, before)


def test_what_settle_prunes_is_a_zero_without_a_sign():
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(-torch.arange(1.0, 7).view(2, 3))
    masks = Hydra(find_sites(layer), Budget(0.5)).settle()
    assert not torch.signbit(layer.weight[~masks["weight"]]).any()
    assert layer.weight[masks["weight"]].tolist() == [-4, -5, -6]

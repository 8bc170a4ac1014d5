from typing import Any

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Pruner
from harp.pruners.gradients import check_gradients
from harp.sparsity import find_sites


def network():
    model = nn.ModuleDict({"words": nn.Embedding(4, 2, sparse=True), "layer": nn.Linear(2, 1)})
    layer, words = model["layer"].parameters(), model["words"].parameters()
    groups: list[dict[str, Any]] = [{"params": layer, "role": "others"}, {"params": words}]
    return model, Pruner(find_sites(model)), torch.optim.SGD(groups, lr=0.1)


def backward(model):
    model["layer"](model["words"](torch.tensor([1, 1, 3]))).sum().backward()


def test_finite_gradients_and_none_at_all_pass():
    model, pruner, optimizer = network()
    check_gradients(pruner, optimizer, 1)
    backward(model)
    check_gradients(pruner, optimizer, 1)
    # Finite, though their squares are not.
    model["layer"].weight.grad.fill_(1e30)
    check_gradients(pruner, optimizer, 1)


def set_dense(name):
    return lambda model: model["layer"].get_parameter(name).grad.view(-1)[:1].fill_(torch.inf)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (set_dense("weight"), "layer.weight"),
        (set_dense("bias"), "others"),
        (lambda model: model["words"].weight.grad._values().fill_(torch.nan), "a parameter outside the sites"),
    ],
)
def test_the_first_that_is_not_is_named(spoil, name):
    model, pruner, optimizer = network()
    backward(model)
    spoil(model)
    with pytest.raises(HarpError, match=f"^the gradient of {name} is NaN or infinite at step 7, so the step was not"):
        check_gradients(pruner, optimizer, 7)

import copy

import pytest
import torch
from torch import nn

from harp.attacks.surrogate import Surrogate, judge
from harp.models import build
from harp.randomness import generator

X = torch.rand(4, 3, 32, 32, generator=generator(0, "x"))


def network(name="cifar_cnn"):
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32)
    model(X)  # batch norm statistics other than those it begins with
    return model


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18", "vgg16_bn"])
def test_a_surrogate_has_the_logits_of_its_original_and_no_batch_norm(name):
    model = network(name).eval()
    quick = Surrogate(model, X)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quick.modules())
    assert torch.allclose(quick(X), model(X), atol=1e-5, rtol=1e-4)
    assert judge(quick) is model
    assert judge(model) is model


def test_the_original_keeps_modes_and_gradients():
    model = network()
    before = copy.deepcopy(model.state_dict())
    quick = Surrogate(model, X).eval()
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in quick.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Branching(nn.Module):
    """No tracer follows it: what it does depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x) if x.mean() > 0.25 else self.inner(1 - x)


def test_a_network_that_cannot_be_traced_is_copied_whole():
    model = Branching().eval()
    quick = Surrogate(model, X)
    assert any(isinstance(module, nn.BatchNorm2d) for module in quick.modules())
    for x in (X, X / 8):
        assert torch.allclose(quick(x), model(x), atol=1e-5)


def test_bfloat16_is_near_and_comes_back_as_float32():
    model = network().eval()
    logits = Surrogate(model, X, bf16=True)(X)
    assert logits.dtype == torch.float32
    assert 0 < (logits - model(X)).abs().max() < 0.1 * model(X).abs().max()

"""Sparse convolutions as matrices: the same numbers as PyTorch's own, forth and back."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional

from harp.graph import Interpreter, capture
from harp.models import build
from harp.randomness import generator
from harp.runtime import gradients
from harp.runtime.gradients import WIDTH, Differentiable, _Convolution
from harp.sparsity import find_weights


def slope(answer, x):
    image = x.clone().requires_grad_()
    logits = answer(image)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), image)[0]


def test_a_kernel_of_one_number_moves_the_image():
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 1] = 2.0  # what lies one row above, twice; above the first row there is padding
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], requires_grad=True)
    made = _Convolution(weight, torch.tensor([10.0]), 1, 1, 1)(image)
    assert made.tolist() == [[[[10.0, 10.0], [12.0, 14.0]]]]
    made.sum().backward()
    assert image.grad is not None
    assert image.grad.tolist() == [[[[2.0, 2.0], [0.0, 0.0]]]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    *(st.integers(1, 3) for _ in range(4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.booleans(),
)
def test_it_is_pytorchs_convolution(seed, n, channels, filters, kernel, stride, padding, dilation, biased):
    draws = torch.Generator().manual_seed(seed)
    weight = torch.randn(filters, channels, kernel, kernel, generator=draws, dtype=torch.float64)
    weight *= torch.rand(weight.shape, generator=draws) < 0.3
    bias = torch.randn(filters, generator=draws, dtype=torch.float64) if biased else None
    x = torch.randn(n, channels, 7, 8, generator=draws, dtype=torch.float64)
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    found = slope(_Convolution(weight, bias, stride, padding, dilation), x)
    expected = slope(lambda image: functional.conv2d(image, weight, bias, **window), x)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18"])
def test_a_network_has_its_logits_and_its_gradients(name):
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32, width=0.5).double()
    draws = generator(0, "masks")
    with torch.no_grad():
        for site in find_weights(model):
            site.param.mul_(torch.rand(site.param.shape, generator=draws) < 0.05)
    x = torch.rand(WIDTH + 3, 3, 32, 32, generator=draws).double()
    graph = capture(model.eval(), x[:2])
    answer = Differentiable(graph)
    assert sum(isinstance(step.call, _Convolution) for step in answer._steps) >= 7
    for ours, theirs in zip(slope(answer, x), slope(Interpreter(graph), x), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


def test_what_is_dense_or_in_groups_stays_pytorchs():
    convolutions = [
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.Conv2d(4, 4, 3, groups=4),
        torch.nn.ConvTranspose2d(4, 4, 3),
    ]
    with torch.no_grad():
        for module in convolutions[1:]:
            module.weight.zero_()
    model = torch.nn.Sequential(*convolutions, torch.nn.Flatten()).eval()
    answer = Differentiable(capture(model, torch.rand(2, 4, 8, 8)))
    assert not any(isinstance(step.call, _Convolution) for step in answer._steps)


def test_matrices_stay_within_the_memory_that_is_meant_for_them(monkeypatch):
    first, second = torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.Conv2d(1, 8, 1, bias=False)
    with torch.no_grad():
        first.weight.zero_()
        second.weight.zero_()[0] = 1
    model = torch.nn.Sequential(first, second, torch.nn.Flatten()).eval()
    graph = capture(model, torch.rand(2, 1, 4, 4))
    kinds = {}
    for most in (16, 15):  # one number at 4 x 4 places
        monkeypatch.setattr(gradients, "MOST", most)
        kinds[most] = [isinstance(step.call, _Convolution) for step in Differentiable(graph)._steps][-3:-1]
    assert kinds == {16: [True, True], 15: [True, False]}

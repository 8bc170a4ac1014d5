"""Sparse convolutions in the engine, forth and back: the same numbers as PyTorch's own."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional

from harp.graph import Interpreter, capture
from harp.models import build
from harp.randomness import generator
from harp.runtime.gradients import CHANNELS, FEW, Back, Convolution, Differentiable, _compiler
from harp.runtime.native import native
from harp.runtime.windows import pair
from harp.sparsity import find_weights


def slope(answer, x):
    image = x.clone().requires_grad_()
    logits = answer(image)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), image)[0]


def in_engine(answer):
    """Of each convolution of a `Differentiable`, whether it runs on the engine."""
    names = {node.name for node in answer.graph.nodes if node.op == "conv2d"}
    return [isinstance(step.call, Convolution) for step in answer._steps if step.name in names]


def test_a_kernel_of_one_number_moves_the_gradient_back():
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 1] = 2.0  # a result is twice what lies one row above it
    back = Back(weight, (2, 2), (2, 2), (1, 1), (1, 1), (1, 1), _compiler(native(), 1))
    assert back(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).tolist() == [[[[6.0, 8.0], [0.0, 0.0]]]]


def test_at_a_stride_of_two_every_second_pixel_has_a_gradient():
    weight = torch.full((1, 1, 1, 1), 3.0)
    back = Back(weight, (3, 3), (2, 2), (2, 2), (0, 0), (1, 1), _compiler(native(), 1))
    expected = [[[[3.0, 0.0, 6.0], [0.0, 0.0, 0.0], [9.0, 0.0, 12.0]]]]
    assert back(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    *(st.integers(1, 3) for _ in range(4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_back_is_the_gradient_of_pytorchs_convolution(seed, n, channels, filters, kernel, stride, padding, dilation):
    draws = torch.Generator().manual_seed(seed)
    weight = torch.randn(filters, channels, kernel, kernel, generator=draws)
    weight *= torch.rand(weight.shape, generator=draws) < 0.3
    x = torch.randn(n, channels, 7, 8, generator=draws).requires_grad_()
    made = functional.conv2d(x, weight, None, stride, padding, dilation)
    grad = torch.randn(made.shape, generator=draws)
    (expected,) = torch.autograd.grad(made, x, grad)
    compiler = _compiler(native(), 1)
    found = Back(weight, (7, 8), pair(made.shape[2:]), stride, padding, dilation, compiler)(grad)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "threads"), [("cifar_cnn", 1), ("resnet18", 2)])
def test_a_network_has_its_logits_and_its_gradients(name, threads):
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32, width=0.5)
    draws = generator(0, "masks")
    with torch.no_grad():
        for site in find_weights(model):
            site.param.mul_(torch.rand(site.param.shape, generator=draws) < 0.2)
    x = torch.rand(19, 3, 32, 32, generator=draws)
    graph = capture(model.eval(), x[:2])
    answer = Differentiable(graph, threads)
    assert all(in_engine(answer))
    # PyTorch's own is exact where it computes in float64.
    exact = slope(Interpreter(capture(model.double(), x[:2].double())), x.double())
    for ours, theirs in zip(slope(answer, x), exact, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_a_gradient_of_the_gradient_is_refused():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten()).eval()
    answer = Differentiable(capture(model, torch.rand(2, 3, 4, 4)))
    x = torch.rand(2, 3, 4, 4).requires_grad_()
    (first,) = torch.autograd.grad(answer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_what_is_dense_or_in_groups_stays_pytorchs():
    many = CHANNELS + 1
    half = torch.nn.Conv2d(many, many, 2)  # its weights are as many as FEW allows
    convolutions: list[torch.nn.Conv2d | torch.nn.ConvTranspose2d] = [half]
    convolutions += [torch.nn.Conv2d(many, many, 3), torch.nn.Conv2d(many, many, 3, groups=many)]
    convolutions += [torch.nn.ConvTranspose2d(many, many, 3), torch.nn.Conv2d(many, 3, 1), torch.nn.Conv2d(3, 3, 3)]
    with torch.no_grad():
        half.weight.view(-1)[: int(half.weight.numel() * (1 - FEW))] = 0
        for module in convolutions[2:4]:
            module.weight.zero_()
    model = torch.nn.Sequential(*convolutions, torch.nn.Flatten()).eval()
    answer = Differentiable(capture(model, torch.rand(2, many, 8, 8)))
    assert in_engine(answer) == [True, False, False, False, True]  # the last has the few channels of an image


def test_a_convolution_whose_weights_are_computed_stays_pytorchs():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.scale = torch.nn.Parameter(torch.rand(2, 3, 3, 3)), torch.nn.Parameter(torch.rand(2))

        def forward(self, x):
            scaled = self.weight * (x.mean() * 0 + self.scale).view(2, 1, 1, 1)
            return functional.conv2d(x, scaled).flatten(1)

    answer = Differentiable(capture(Scaled().eval(), torch.rand(2, 3, 4, 4)))
    assert in_engine(answer) == [False]

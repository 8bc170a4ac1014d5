import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from harp.objectives.dependence import gaussian, linear, nhsic, normalised

TWO = torch.eye(2)


def test_the_gaussian_is_that_of_the_distance_for_each_dimension():
    """Points 0 and (3, 4, 0, 0): exp(-25 / (2 * 25 * 4))."""
    found = gaussian(torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]]]))
    assert found.dtype == torch.float64
    assert found.tolist() == [pytest.approx(row) for row in ([1, math.exp(-1 / 8)], [math.exp(-1 / 8), 1])]


def test_two_points_in_closed_form():
    """A kernel [[1, k], [k, 1]] has one centred eigenvalue, 1 - k, and R one of (1 - k) / (1 - k + 2e-5)."""
    images = gaussian(torch.tensor([[0.0], [5.0]]))
    k = math.exp(-1 / 2)
    expected = (1 - k) / (1 - k + 2e-5) / (1 + 2e-5)
    assert nhsic(normalised(images), normalised(linear(TWO))).item() == pytest.approx(expected, rel=1e-9)


def test_what_is_constant_tells_nothing():
    constant = gaussian(torch.ones(4, 3))
    assert nhsic(normalised(constant), normalised(linear(torch.eye(4)))).item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(1, 20))
def test_it_is_symmetric_and_between_nothing_and_one_less_than_the_points(points, length):
    torch.manual_seed(points * length)
    a, b = torch.randn(points, length), torch.randn(points, length)
    first, second = (normalised(gaussian(values)) for values in (a, b))
    value = nhsic(first, second).item()
    assert value == pytest.approx(nhsic(second, first).item(), abs=1e-9)
    assert -1e-9 <= value <= points - 1
    assert value**2 <= nhsic(first, first).item() * nhsic(second, second).item() + 1e-9


def test_its_gradient_is_right_where_points_coincide_too():
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    label = normalised(linear(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])))
    assert torch.autograd.gradcheck(lambda points: nhsic(normalised(gaussian(points)), label), points)

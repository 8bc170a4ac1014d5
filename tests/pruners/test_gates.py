"""Kumaraswamy gates against METHODS 2.6's numbers."""

import pytest
import torch
from torch import nn

from harp.pruners.gates import Gates

ONE = 0.541324855  # softplus of it is 1


def gates(raw_a, raw_b=ONE, n=1):
    return Gates(*(nn.Parameter(torch.full((n,), raw, dtype=torch.float64)) for raw in (raw_a, raw_b)))


@pytest.mark.parametrize(("raw_a", "a", "mean", "divergence"), [(ONE, 1, 0.5, 8.2104), (2.0, 2.1269, 0.6802, 8.9651)])
def test_means_and_divergences(raw_a, a, mean, divergence):
    one = gates(raw_a)
    assert float(one.a.detach()) == pytest.approx(a, abs=1e-4)
    assert float(one.mean().detach()) == pytest.approx(mean, abs=1e-4)
    assert float(one.divergence().detach()) == pytest.approx(divergence, abs=1e-4)


def test_the_mean_is_that_of_what_is_drawn():
    many = gates(0.3, 1.2, n=200_000)
    noise = torch.Generator().manual_seed(0)
    once, each = torch.rand(2, 200_000, generator=noise, dtype=torch.float64)
    drawn = many.drawn(once, each[None]).detach()
    assert drawn.shape == (1, 200_000)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    # The relaxation is symmetric about a half, so means differ by little from those of hard gates.
    assert float(drawn.mean()) == pytest.approx(float(many.mean()[0].detach()), abs=0.01)


def test_gradients_are_finite_at_the_ends_and_agree_with_finite_differences():
    # Cut off at -10 and 50 the raw parameters' slopes are 0 there; a and b stay what they are at the cut.
    for raw_a, raw_b in ((-60.0, -60.0), (60.0, 60.0), (-9.0, 40.0)):
        one = gates(raw_a, raw_b)
        sample = one.drawn(torch.tensor([0.0]).double(), torch.tensor([[1.0]]).double()).sum()
        (sample + one.mean().sum() + one.divergence().sum()).backward()
        assert one.raw_a.grad.isfinite().all()
        assert one.raw_b.grad.isfinite().all()
    raw = (gates(0.4, 0.9).raw_a, gates(0.4, 0.9).raw_b)
    once, each = torch.tensor([0.3]).double(), torch.tensor([[0.4], [0.7]]).double()
    for measure in (Gates.mean, Gates.divergence, lambda one: one.drawn(once, each)):
        assert torch.autograd.gradcheck(lambda a, b, measure=measure: measure(Gates(a, b)), raw)

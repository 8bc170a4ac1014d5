"""Targets in the order of their boundaries."""

import math

import pytest
import torch
from torch import nn

from harp.attacks import APGD, ATTACKS
from harp.attacks.hyperplanes import boundaries
from harp.attacks.malt import MALT
from harp.errors import HarpError
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import affine, distances
from tests.attacks.test_apgd import assert_decided_by


def test_the_nearest_boundary_is_not_that_of_the_largest_logit():
    """METHODS 9.13's example: gaps of 1 and 2 and gradients of 1-norms 5 and 20 are .2 and .1 away."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor([[0.0] * 4, [1.25] * 4, [-5.0] * 4]))
        model.get_parameter("1.bias").copy_(torch.tensor([0.0, -1.0 - 2.5, -2.0 + 10.0]))
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    assert APGD("dlr", targets=2).aims(model, x, y, Threat()).tolist() == [[1, 2]]
    assert MALT("dlr", targets=2).aims(model, x, y, Threat()).tolist() == [[2, 1]]
    far = boundaries(model, x, y, torch.tensor([[1, 2]]), math.inf)
    assert far.tolist() == [pytest.approx([0.2, 0.1])]


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_of_many_classes_one_that_looks_nearest_is_enough_on_a_linear_network(norm):
    model, x = affine(30, (4,), seed=30), torch.rand(7, 4, generator=generator(0, "x")).double()
    y = model(x).argmax(1)
    attack = ATTACKS["malt"](steps=60, targets=1)
    assert_decided_by(distances(model, x, y, norm).amin(1), attack, model, x, y, norm)


def test_without_targets_it_is_refused():
    with pytest.raises(HarpError, match="targets is None and among 100"):
        MALT("dlr")

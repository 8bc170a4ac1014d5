import math
import random

import numpy
import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.export.agreement import agree, relative, steady


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def test_the_difference_is_a_share_of_the_largest():
    assert relative(torch.tensor([1.0, -3.5]), torch.tensor([1.0, -4.0])) == 0.125
    assert relative(torch.tensor([0.0, 0.25]), torch.zeros(2)) == 0.25
    assert relative(torch.tensor([math.nan, 1.0]), torch.ones(2)) == math.inf
    assert relative(torch.ones(1, 2), torch.ones(2)) == math.inf


def test_nan_and_infinities_are_equal_where_they_stand_alike():
    odd = torch.tensor([math.nan, math.inf, -math.inf, 4.0])
    assert relative(odd, odd.clone()) == 0
    assert relative(torch.tensor([math.nan, math.inf, -math.inf, 3.0]), odd) == 0.25
    for place, value in ((0, 1.0), (1, math.nan), (2, math.inf), (3, math.nan), (3, math.inf)):
        other = odd.clone()
        other[place] = value
        assert relative(other, odd) == math.inf
    assert relative(torch.zeros(0), torch.zeros(0)) == 0


def test_what_float32_cannot_hold_allows_nothing():
    """Its distance from float64, in which there is no infinity, is no measure."""

    class Overflowing(nn.Module):
        def forward(self, x):
            return x * 1e38 * 10

    x = torch.ones(2, 3)
    with pytest.raises(HarpError, match="a copy gives other logits"):
        agree(Overflowing(), lambda x: x, [x], 1e-5, "a copy")


@pytest.mark.parametrize("wrap", [lambda z: {"logits": z}, lambda z: [z], lambda z: (z,)])
def test_wrapped_logits_are_compared_as_what_is_in_them(wrap):
    model, x = Wrapped(wrap), torch.ones(2, 4)
    assert agree(model, model.linear, [x], 1e-5, "a copy").difference == 0
    with pytest.raises(HarpError, match="a copy gives other logits"):
        agree(model, lambda x: 2 * model.linear(x), [x], 1e-5, "a copy")


class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap, self.linear = wrap, linear()

    def forward(self, x):
        return self.wrap(self.linear(x))


class Odd(nn.Module):
    """A linear layer, and `after` what it answered."""

    def __init__(self, after):
        super().__init__()
        self.after, self.linear = after, linear()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        return self.after(self, self.linear(x))


def remembers(self, z):
    self.seen += 1
    return z


def drifts(self, z):
    self.linear.bias.data += 1
    return z


RANDOM = {
    "dropout": lambda self, z: nn.functional.dropout(z),
    "noise": lambda self, z: z + 1e-3 * torch.rand(3),
    "python": lambda self, z: z * random.random(),
    "numpy": lambda self, z: z * float(numpy.random.rand()),
    "rarely": lambda self, z: z * (torch.rand(len(z), 1) > 0.05),
    "drifts": drifts,
}


@pytest.mark.parametrize("after", RANDOM.values(), ids=RANDOM)
def test_a_network_that_answers_otherwise_the_second_time_is_refused(after):
    torch.manual_seed(0)
    with pytest.raises(HarpError, match=r"answers the same images otherwise the second time.*random in eval mode"):
        steady(Odd(after), torch.ones(8, 4))


def test_a_network_that_writes_into_its_state_is_refused_by_the_name_of_it():
    with pytest.raises(HarpError, match="changes seen when it is asked in eval mode"):
        steady(Odd(remembers), torch.ones(8, 4))


def reseeds(self, z):
    return z + torch.rand(3, generator=torch.Generator().manual_seed(0))


def test_an_honest_network_is_steady_and_left_as_it_was():
    """The same noise each time, numbers drawn to no effect, dropout that is off, answers that are no numbers."""
    honest = [reseeds, lambda self, z: z + 0 * torch.rand(3), lambda self, z: nn.functional.dropout(z, training=False)]
    for after in (*honest, lambda self, z: z / 0, lambda self, z: (z, {})):
        model = Odd(after)
        steady(model, torch.ones(8, 4))
        assert model.training


def test_a_network_that_fails_is_refused_in_a_sentence():
    with pytest.raises(HarpError, match=r"the network fails on images \[8, 5\]: RuntimeError: mat1 and mat2"):
        steady(linear(), torch.ones(8, 5))


def test_randomness_is_not_taken_for_what_float32_computes_badly():
    with pytest.raises(HarpError, match="random in eval mode"):
        agree(Odd(RANDOM["dropout"]), lambda x: linear()(x), [torch.ones(8, 4)], 1e-5, "a copy")


def test_agreement_counts_images_and_keeps_the_largest_difference():
    model = linear()
    batches = [torch.ones(5, 4), torch.ones(2, 4)]
    found = agree(model, lambda x: model(x) * (1 + 1e-3 * (len(x) == 2)), batches, 1e-2, "a copy")
    assert found.images == 7
    assert found.difference == pytest.approx(1e-3, rel=1e-3)
    assert found.allowed == 1e-2


def test_another_network_is_refused_by_name():
    model, other = linear(), nn.Linear(4, 3)
    with pytest.raises(HarpError, match="the copy gives other logits"):
        agree(model, other, [torch.ones(2, 4)], 1e-5, "the copy")
    with pytest.raises(HarpError, match="no images to compare the copy"):
        agree(model, model, [], 1e-5, "the copy")


def test_what_float32_itself_computes_badly_may_differ_by_three_times_as_much():
    class Cancelling(nn.Module):
        def forward(self, x):
            return (x * 1e6 + 0.3) - x * 1e6

    x = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    model = Cancelling()
    own = relative(model(x), model(x.double()))
    assert own > 1e-3
    found = agree(model, lambda x: model(x) * (1 + own), [x], 1e-5, "a copy")
    assert 1e-5 < found.difference <= found.allowed == pytest.approx(3 * own)
    with pytest.raises(HarpError, match="a copy gives other logits"):
        agree(model, lambda x: model(x) * (1 + 5 * own), [x], 1e-5, "a copy")

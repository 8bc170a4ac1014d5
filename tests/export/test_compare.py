import math

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.export.compare import agree, relative


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def test_the_difference_is_a_share_of_the_largest():
    assert relative(torch.tensor([1.0, -3.5]), torch.tensor([1.0, -4.0])) == 0.125
    assert relative(torch.tensor([0.0, 0.25]), torch.zeros(2)) == 0.25
    assert relative(torch.tensor([math.nan, 1.0]), torch.ones(2)) == math.inf
    assert relative(torch.ones(1, 2), torch.ones(2)) == math.inf


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

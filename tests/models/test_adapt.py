import math

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import Normalised


def test_each_channel_is_shifted_and_scaled_by_its_own_values():
    model = Normalised(nn.Identity(), mean=[0.5, 0.25], std=[0.5, 0.25])
    images = torch.tensor([[[[0.0, 1.0]], [[0.0, 1.0]]]])
    assert model(images).tolist() == [[[[-1.0, 1.0]], [[-1.0, 3.0]]]]


def test_mean_and_std_are_saved_and_not_trained():
    model = Normalised(nn.Identity(), mean=[0.5, 0.25, 0.0], std=[1.0, 2.0, 3.0])
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        "mean": (3, 1, 1),
        "std": (3, 1, 1),
    }
    assert list(model.parameters()) == []


def test_gradients_reach_the_image_in_its_own_units():
    images = torch.full((1, 1, 1, 1), 0.5, requires_grad=True)
    Normalised(nn.Identity(), mean=[0.5], std=[0.25])(images).sum().backward()
    assert images.grad is not None
    assert images.grad.item() == 4.0


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5, 0.5], [1.0], "mean has 2 values and std 1"),
        ([], [], "mean has 0 values"),
        ([math.nan], [1.0], "expected finite"),
        ([0.5], [0.0], "above 0"),
        ([0.5], [-1.0], "above 0"),
        ([0.5], [math.nan], "above 0"),
    ],
)
def test_values_that_cannot_normalise_are_refused(mean, std, message):
    with pytest.raises(HarpError, match=message):
        Normalised(nn.Identity(), mean, std)

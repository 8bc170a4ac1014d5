import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import Logits, Normalised


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


class Wrapping(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.wrap = wrap

    def forward(self, images):
        return self.wrap(self.layer(images))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: SimpleNamespace(logits=logits, loss=None),
        lambda logits: {"loss": None, "logits": logits},
        lambda logits: (logits, "hidden"),
        lambda logits: [logits],
    ],
)
def test_logits_are_found_in_what_wraps_them(wrap):
    model, images = Wrapping(wrap), torch.rand(4, 2)
    assert torch.equal(Logits(model)(images), model.layer(images))


@pytest.mark.parametrize("output", [None, (), ("a", torch.zeros(1)), {"scores": torch.zeros(1)}, {"logits": None}])
def test_an_output_without_logits_is_refused(output):
    with pytest.raises(HarpError, match=f"an object of type {type(output).__name__} without logits"):
        Logits(Wrapping(lambda logits: output))(torch.rand(4, 2))


def test_adapters_prefix_the_names_once():
    model = Wrapping(lambda logits: (logits,))
    expected = ["model.layer.weight", "model.layer.bias"]
    assert list(Logits(model).state_dict()) == expected
    inside = Normalised(Logits(model), mean=[0.5], std=[0.5])
    assert list(inside.state_dict()) == ["mean", "std", *expected]
    assert inside.model is model


def test_a_normalised_network_may_wrap_its_logits():
    model, images = Wrapping(lambda logits: (logits,)), torch.rand(1, 4, 2)
    assert torch.equal(Normalised(model, [0.0], [0.5])(images), model.layer(images / 0.5))

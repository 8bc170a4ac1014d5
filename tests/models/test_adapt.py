import math
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import Logits, Normalised, opened

Named = namedtuple("Named", "features logits")


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
        lambda logits: (None, logits),
        lambda logits: (logits[:, :, None, None], logits),
        lambda logits: {"scores": logits, "classes": logits.argmax(1)},
        lambda logits: Named(features=2 * logits, logits=logits),
        lambda logits: SimpleNamespace(hidden=logits.sum(1), scores=logits),
    ],
)
def test_logits_are_found_in_what_wraps_them(wrap):
    model, images = Wrapping(wrap), torch.rand(4, 2)
    assert torch.equal(Logits(model)(images), model.layer(images))


@pytest.mark.parametrize(
    ("wrap", "output", "named"),
    [
        (lambda logits: (2 * logits, logits), "1", r"0 \[4, 3\], 1 \[4, 3\]"),
        (lambda logits: {"aux": 2 * logits, "out": logits}, "out", r"aux \[4, 3\], out \[4, 3\]"),
        (lambda logits: SimpleNamespace(scores=logits, other=2 * logits), "scores", r"scores \[4, 3\], other"),
    ],
)
def test_of_several_that_may_be_logits_one_must_be_named(wrap, output, named):
    model, images = Wrapping(wrap), torch.rand(4, 2)
    with pytest.raises(HarpError, match=f"2 tensors could be the logits .*{named}.*model.output"):
        Logits(model)(images)
    assert torch.equal(Logits(model, output)(images), model.layer(images))
    assert torch.equal(Normalised(Logits(model, output), [0.0], [1.0])(images)[0], model.layer(images))
    with pytest.raises(HarpError, match=r"has no 'score'; .*there are"):
        Logits(model, "score")(images)


def test_opened_networks_answer_with_logits_and_are_as_before_afterwards():
    model, images = Wrapping(lambda logits: (logits,)), torch.rand(4, 2)
    with opened(model):
        assert torch.equal(model(images), model.layer(images))
        assert list(model.state_dict()) == ["layer.weight", "layer.bias"]
    assert isinstance(model(images), tuple)
    with pytest.raises(ZeroDivisionError), opened(model):
        1 / 0  # noqa: B018
    assert not model._forward_hooks


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

import math

import pytest
from hypothesis import given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.models import MODELS
from harp.models.base import scaled

from .counting import hollow


def test_a_width_rounds_half_up_and_leaves_a_channel():
    assert [scaled(64, 0.25), scaled(10, 0.25), scaled(2, 0.75), scaled(64, 0.001)] == [16, 3, 2, 1]


@given(count=st.integers(1, 2048), width=st.floats(1e-3, 16))
def test_a_width_is_off_by_half_a_channel_at_most(count, width):
    assert abs(scaled(count, width) - max(1, count * width)) <= 0.5


@pytest.mark.parametrize("width", [0, -1.0, math.nan, math.inf])
def test_a_width_that_is_no_factor_is_refused(width):
    with pytest.raises(HarpError, match="expected a factor above 0"):
        scaled(64, width)


def test_the_registered_names():
    assert list(MODELS) == [
        "cifar_cnn",
        "digits_cnn",
        "imagenet_resnet50",
        "preact_resnet18",
        "resnet18",
        "resnet34",
        "resnet50",
        "vgg16_1fc",
        "vgg16_bn",
        "wide_resnet28_10",
        "wide_resnet28_4",
        "wide_resnet34_10",
    ]


@pytest.mark.parametrize("name", MODELS)
def test_convolutions_before_a_batch_norm_carry_no_bias_and_linear_layers_do(name):
    layers = list(hollow(name).modules())
    assert all(layer.bias is None for layer in layers if isinstance(layer, nn.Conv2d))
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("name", MODELS)
def test_a_width_multiplies_the_channels_of_every_batch_norm(name):
    def channels(width):
        return [layer.num_features for layer in hollow(name, width=width).modules() if hasattr(layer, "num_features")]

    assert [2 * count for count in channels(1.0)] == channels(2.0)

import pytest
import torch

from harp.errors import HarpError
from harp.models import build

from .counting import hollow, sizes, total


def test_vgg16_bn_has_the_sizes_of_the_paper():
    convolutions = [1728, 36864, 73728, 147456, 294912, 589824, 589824, 1179648, *[2359296] * 5]
    assert sizes(hollow("vgg16_bn")) == [*convolutions, 524288, 65536, 2560]
    assert sum(sizes(hollow("vgg16_bn"))) == 15_302_848


def test_width_and_image_enter_where_they_should():
    narrow = sizes(hollow("vgg16_bn", classes=7, channels=1, width=0.25))
    assert narrow[:2] == [9 * 1 * 16, 9 * 16 * 16]
    assert narrow[-3:] == [4 * 128 * 64, 64 * 64, 64 * 7]


def test_vgg16_with_one_linear_layer_is_the_published_one_without_biases_before_norms():
    model = hollow("vgg16_1fc")
    assert sizes(model) == [*sizes(hollow("vgg16_bn"))[:13], 5120]
    assert sum(sizes(model)) == 14_715_584
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
    assert total(model) == 14_728_266 - biases == 14_715_584 + 2 * biases + 10


@pytest.mark.parametrize("size", [32, 40, 64])
def test_images_may_be_larger_than_the_five_pools_need(size):
    model = build("vgg16_1fc", classes=7, channels=1, size=size, width=0.05).eval()
    assert model(torch.rand(2, 1, size, size)).shape == (2, 7)


def test_images_too_small_for_the_pools_are_refused():
    with pytest.raises(HarpError, match="28 x 28 pixels: expected 32 x 32 at least"):
        hollow("vgg16_1fc", size=28)

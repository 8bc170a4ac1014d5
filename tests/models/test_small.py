import pytest
import torch

from harp.models import MODELS, build

from .counting import hollow, macs, sizes


def test_digits_cnn_has_the_sizes_it_states():
    found = sizes(hollow("digits_cnn", channels=1, size=8))
    assert found == [9 * 1 * 32, 9 * 32 * 64, 9 * 64 * 128, 4 * 128 * 128, 128 * 10]
    assert sum(found) == 159_264


def test_digits_cnn_follows_the_size_of_the_image():
    assert sizes(hollow("digits_cnn", channels=1, size=28))[3] == 7 * 7 * 128 * 128


def test_cifar_cnn_has_the_weights_and_the_cost_it_states():
    model = MODELS["cifar_cnn"](classes=10, channels=3, size=32, width=1.0)
    found = sizes(model)
    assert found == [
        9 * 3 * 16,
        9 * 16 * 32,
        9 * 32 * 32,
        9 * 32 * 64,
        9 * 64 * 64,
        9 * 64 * 96,
        9 * 96 * 96,
        960,
    ]
    pixels = [1024, 256, 256, 64, 64, 16, 16, 1]
    cost = sum(size * area for size, area in zip(found, pixels, strict=True))
    assert sum(found) == 208_752
    assert macs(model, torch.rand(2, 3, 32, 32)) == cost == 9_733_056


@pytest.mark.parametrize(
    "name", ["digits_cnn", "cifar_cnn", "resnet18", "preact_resnet18", "wide_resnet28_4", "vgg16_bn"]
)
def test_images_need_not_be_square(name):
    model = build(name, classes=3, channels=1, size=(24, 40), width=0.1).eval()
    assert model(torch.zeros(2, 1, 24, 40)).shape == (2, 3)


def test_a_factory_is_given_one_number_for_square_images(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def make(classes, size):\n"
        "    assert size in (6, (6, 4)), size\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    for size in (6, (6, 6), (6, 4)):
        build(f"{file}:make", classes=2, channels=1, size=size)

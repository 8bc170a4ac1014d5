import torch

from harp.models import MODELS

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

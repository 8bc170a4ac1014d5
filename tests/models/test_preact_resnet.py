import pytest
import torch
from torch import nn

from harp.models import build

from .counting import hollow, sizes, total


def test_preact_resnet18_has_the_weights_of_resnet18():
    assert sorted(sizes(hollow("preact_resnet18"))) == sorted(sizes(hollow("resnet18")))
    assert sum(sizes(hollow("preact_resnet18"))) == 11_164_352


def test_it_has_the_published_number_of_parameters():
    # A common port has 11,171,146, without the last norm; that of FlyingBird and RobustBird has it.
    norms = 2 * (4 * 64 + 64 + 3 * 128 + 128 + 3 * 256 + 256 + 3 * 512)
    assert total(hollow("preact_resnet18")) == 11_164_352 + 10 + norms + 2 * 512 == 11_171_146 + 2 * 512


@pytest.mark.parametrize("size", [8, 32])
def test_logits_of_images_of_any_size(size):
    model = build("preact_resnet18", classes=7, channels=1, size=size, width=0.05).eval()
    assert model(torch.rand(2, 1, size, size)).shape == (2, 7)


def test_what_is_pooled_was_activated():
    model = hollow("preact_resnet18")
    kinds = [type(layer) for layer in model.modules() if not list(layer.children())]
    assert kinds[-5:] == [nn.BatchNorm2d, nn.ReLU, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]

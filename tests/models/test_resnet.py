import pytest
import torch

from harp.models.resnet import BasicBlock, Bottleneck

from .counting import hollow, sizes, total


def test_resnet18_has_the_sizes_of_the_paper():
    assert sizes(hollow("resnet18")) == [
        *[1728, *[36864] * 4],
        *[73728, 147456, 8192, 147456, 147456],
        *[294912, 589824, 32768, 589824, 589824],
        *[1179648, 2359296, 131072, 2359296, 2359296],
        5120,
    ]
    assert sum(sizes(hollow("resnet18"))) == 11_164_352


def test_resnet34_by_hand():
    first = 1728 + 6 * 36864
    second = 73728 + 7 * 147456 + 8192
    third = 294912 + 11 * 589824 + 32768
    fourth = 1179648 + 5 * 2359296 + 131072
    assert sum(sizes(hollow("resnet34"))) == first + second + third + fourth + 5120 == 21_265_088


def test_resnet50_differs_from_the_imagenet_network_by_stem_and_classifier():
    imagenet, stems, classifiers = 25_502_912, (9408, 1728), (2048 * 1000, 2048 * 10)
    expected = imagenet - stems[0] + stems[1] - classifiers[0] + classifiers[1]
    assert sum(sizes(hollow("resnet50"))) == expected == 23_467_712
    assert len(sizes(hollow("resnet50"))) == 54


def test_resnet50_has_the_published_number_of_parameters_of_its_kind():
    # torchvision's resnet50 has 25,557,032; the classifier's biases go from 1,000 to 10.
    removed = 9408 - 1728 + 2048 * 990 + 990
    assert total(hollow("resnet50")) == 25_557_032 - removed


def test_the_network_of_imagenet_has_its_published_number_of_weights():
    model = hollow("imagenet_resnet50", classes=1000)
    assert (sum(sizes(model)), total(model)) == (25_502_912, 25_557_032)
    with torch.device("meta"):
        assert model.get_submodule("0")(torch.empty(1, 3, 224, 224)).shape == (1, 64, 56, 56)


@pytest.mark.parametrize(("block", "outward"), [(BasicBlock, 8), (Bottleneck, 32)])
def test_a_block_with_silent_convolutions_passes_its_shortcut(block, outward):
    model = block(outward, 8, stride=1).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.zeros_(layer.weight)
    x = torch.linspace(-1, 1, 2 * outward * 4).reshape(2, outward, 2, 2)
    assert torch.equal(model(x), x.relu())


@pytest.mark.parametrize(("block", "outward"), [(BasicBlock, 8), (Bottleneck, 32)])
def test_a_stride_halves_the_image(block, outward):
    assert block(4, 8, stride=2)(torch.rand(2, 4, 6, 6)).shape == (2, outward, 3, 3)

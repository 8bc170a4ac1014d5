import pytest
import torch
from torch import nn

from harp.models.wide_resnet import PreActivationBlock

from .counting import hollow, sizes, total


def test_wide_resnet28_4_has_the_size_of_the_paper():
    assert sum(sizes(hollow("wide_resnet28_4"))) == 5_841_840
    assert len(sizes(hollow("wide_resnet28_4"))) == 29


@pytest.mark.parametrize(
    ("name", "prunable", "published"),
    [("wide_resnet28_10", 36_461_232, 36_479_194), ("wide_resnet34_10", 46_138_032, 46_160_474)],
)
def test_the_wide_ones_have_the_published_numbers_of_parameters(name, prunable, published):
    assert sum(sizes(hollow(name))) == prunable
    assert total(hollow(name)) == published


def test_width_multiplies_the_widening():
    assert sizes(hollow("wide_resnet28_4", width=0.5))[:3] == [9 * 3 * 8, 9 * 8 * 32, 9 * 32 * 32]


def silent(block):
    nn.init.zeros_(block.conv2.weight)
    return block.eval()


def test_an_identity_shortcut_passes_the_raw_input():
    x = torch.linspace(-1, 1, 64).reshape(2, 8, 2, 2)
    assert torch.equal(silent(PreActivationBlock(8, 8, stride=1))(x), x)


def test_a_convolved_shortcut_reads_the_activated_input():
    block = silent(PreActivationBlock(8, 4, stride=2))
    assert torch.equal(block(-torch.ones(2, 8, 4, 4)), torch.zeros(2, 4, 2, 2))

"""What a forward pass multiplies, counted by hand."""

import torch
from torch import nn

from harp.models import build
from harp.sparsity import Weights, find_sites, trace_macs


def test_convolutions_and_linear_layers_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5))
    assert trace_macs(model, torch.rand(2, 3, 8, 8)) == {"0.weight": 64 * 4 * 3 * 9, "3.weight": 64 * 5}


def test_groups_strides_and_transposed_convolutions():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
    )
    # 4 x 4 outputs of 8 channels that each read one; then each of 4 x 4 inputs meets 2 x 2 weights of 3 outputs.
    assert trace_macs(model, torch.rand(1, 4, 8, 8)) == {"0.weight": 16 * 8 * 1 * 9, "1.weight": 16 * 8 * 3 * 4}


def test_a_tied_weight_pays_for_every_use_under_its_first_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.again = nn.Linear(6, 6)
            self.again.weight = self.first.weight

        def forward(self, x):
            return self.again(self.first(x.flatten(1)))

    assert trace_macs(Twice(), torch.rand(3, 1, 2, 3)) == {"first.weight": 72}


def test_attention_pays_for_its_packed_weight_and_products_of_activations_have_no_owner():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0][:, 0]

    macs = trace_macs(Attends(), torch.rand(1, 5, 8))
    assert macs["attention.in_proj_weight"] == 5 * 24 * 8
    assert macs["attention.out_proj.weight"] == 5 * 8 * 8
    assert macs[None] == 2 * 2 * 5 * 5 * 4  # queries by keys and then by values, two heads of four


def test_fused_attention_is_counted_as_the_products_it_fuses():
    class Attends(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert trace_macs(Attends(), torch.rand(1, 2, 5, 4)) == {None: 2 * 2 * 5 * 5 * 4}


def test_tracing_leaves_modes_and_statistics_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    trace_macs(model, torch.rand(2, 3, 8, 8))
    assert model[1].training
    assert model[1].num_batches_tracked == 0


def test_known_networks():
    # He et al. give 0.56 G for the ResNet-18 of this size; 313.8 M is VGG16's 13 convolutions and three layers.
    for name, macs in (("resnet18", 555_422_720), ("vgg16_bn", 313_788_928)):
        model = build(name, classes=10, channels=3, size=32)
        units = Weights(find_sites(model), trace_macs(model, torch.rand(1, 3, 32, 32)))
        assert units.cost("macs")(units.sizes) == macs

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.models import build
from harp.sparsity import find_channels, remove, resize
from tests.sparsity import nets
from tests.sparsity.agreeing import agree, half


def bits(*values):
    return torch.tensor(values, dtype=torch.bool)


def shapes(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.fixture
def flat():
    model = nets.flat()
    return model, find_channels(model, torch.zeros(2, 1, 2, 2)).groups


def test_what_stays_is_what_was_there(flat):
    model, groups = flat
    smaller = remove(model, groups, {"0.weight": bits(False, True)})
    assert torch.equal(smaller.get_parameter("0.weight"), model.get_parameter("0.weight")[1:])
    assert torch.equal(smaller.get_buffer("1.running_var"), model.get_buffer("1.running_var")[1:])
    assert torch.equal(smaller.get_parameter("4.weight"), model.get_parameter("4.weight")[:, 4:])
    assert torch.equal(smaller.get_parameter("4.bias"), model.get_parameter("4.bias"))


def test_attributes_follow(flat):
    model, groups = flat
    smaller: Any = remove(model, groups, {"0.weight": bits(False, True)})
    assert (smaller[0].out_channels, smaller[1].num_features, smaller[4].in_features) == (1, 1, 4)
    assert (model[0].out_channels, model[1].num_features, model[4].in_features) == (2, 2, 8)


@pytest.mark.parametrize(
    ("model", "keep", "index", "expected"),
    [
        (nets.depthwise(), bits(1, 0, 1), 2, (2, 2, 2)),
        (nets.depthwise(filters=2), bits(1, 0, 1), 2, (2, 4, 2)),
        (nets.depthwise(), bits(0, 0, 1), 2, (1, 1, 1)),
        (nets.grouped(), bits(1, 0), 2, (2, 6, 2)),
    ],
)
def test_the_number_of_groups_follows_where_every_channel_is_one(model, keep, index, expected):
    groups = find_channels(model, torch.zeros(2, 2, 3, 3)).groups
    layer = remove(model, groups, {groups[0].name: keep}).get_submodule(str(index))
    assert (layer.in_channels, layer.out_channels, layer.groups) == expected


def test_modes_types_and_frozen_weights_stay(flat):
    model, groups = flat
    model.double().eval()[0].weight.requires_grad = False
    model[4].train()
    smaller = remove(model, groups, {"0.weight": bits(True, False)})
    assert [module.training for module in smaller.children()] == [False, False, False, False, True]
    assert [p.requires_grad for p in smaller.parameters()] == [p.requires_grad for p in model.parameters()]
    assert {p.dtype for p in smaller.parameters()} == {torch.float64}
    assert list(smaller.state_dict()) == list(model.state_dict())


def test_a_group_without_a_mask_stays_whole(flat):
    model, groups = flat
    assert shapes(remove(model, groups, {})) == shapes(model)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"0.weight": bits(0, 0)}, "keeps no channel"),
        ({"0.weight": bits(1, 0, 1)}, r"expected bool \[2\], got torch.bool \[3\]"),
        ({"0.weight": torch.ones(2)}, r"expected bool \[2\], got torch.float32"),
        ({"0.wight": bits(1, 0)}, "did you mean '0.weight'"),
    ],
)
def test_a_mask_that_fits_no_group_is_a_mistake(flat, keep, message):
    model, groups = flat
    with pytest.raises(HarpError, match=message):
        remove(model, groups, keep)


class Random(nn.Module):
    """A small convolutional graph drawn step by step; every step has the same number of pixels in and out."""

    def __init__(self, steps, width):
        super().__init__()
        self.steps, self.layers = steps, nn.ModuleList()
        count = width
        self.stem = nn.Conv2d(2, width, 1)
        for step in steps:
            grouped = count if step == "depthwise" else 2 if step == "grouped" and count % 2 == 0 else 1
            inner = [nn.Conv2d(count, count, 3, padding=1, groups=grouped), nn.BatchNorm2d(count), nn.ReLU()]
            if step == "bottleneck":
                inner = [nn.Conv2d(count, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, count, 1)]
            self.layers.append(nn.Sequential(*inner))
            count = 2 * count if step == "concat" else count
        self.head = nn.Linear(4 * count, 3)

    def forward(self, x):
        x = self.stem(x)
        for step, layer in zip(self.steps, self.layers, strict=True):
            out = layer(x)
            x = torch.cat([x, out], 1) if step == "concat" else x + out if step in ("sum", "bottleneck") else out
        return self.head(x.flatten(1))


STEPS = st.lists(st.sampled_from(["plain", "sum", "concat", "depthwise", "grouped", "bottleneck"]), max_size=4)


@settings(max_examples=30)
@given(steps=STEPS, width=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99))
def test_any_graph_with_any_masks_gives_the_silenced_logits(steps, width, seed):
    torch.manual_seed(seed)
    model = Random(steps, width).double()
    found = find_channels(model, torch.zeros(2, 2, 2, 2))
    assert found.groups, found.fixed
    assert agree(model, found.groups, half(found.groups, seed), torch.randn(5, 2, 2, 2).double(), tolerance=1e-10)


@pytest.mark.parametrize(
    "model",
    [nets.depthwise(), nets.depthwise(filters=2), nets.grouped(), nets.Residual(), nets.Concatenated(), nets.Gated()],
)
def test_a_smaller_file_loads_into_the_resized_network(model):
    groups = find_channels(model, torch.zeros(2, 2, 3, 3)).groups
    smaller = remove(model, groups, half(groups)).eval()
    images = torch.rand(3, 2, 3, 3)
    model.eval()
    resize(model, shapes(smaller))
    model.load_state_dict(smaller.state_dict())
    assert torch.equal(model(images), smaller(images))
    assert repr(model) == repr(smaller)


def test_a_whole_network_of_ours_loads_its_smaller_file():
    model = build("resnet18", classes=10, channels=3, size=16, width=0.0625)
    groups = find_channels(model, torch.zeros(2, 3, 16, 16)).groups
    smaller = remove(model, groups, half(groups))
    resize(model, shapes(smaller))
    model.load_state_dict(smaller.state_dict())
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(model(images), smaller(images))
    assert repr(model) == repr(smaller)


def test_resizing_keeps_a_tie():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    resize(model, {name: torch.Size([2] * len(shape)) for name, shape in shapes(model).items()})
    assert model[1].weight is model[0].weight
    assert repr(model[1]) == repr(nn.Linear(2, 2))


def test_resizing_to_the_own_shapes_changes_nothing():
    model = nets.flat()
    before = dict(model.named_parameters())
    resize(model, shapes(model))
    assert all(before[name] is parameter for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": (3, 1, 1, 1)}, "0.weight has shape .* expected fewer channels"),
        ({"0.weight": (2, 1)}, "expected fewer channels"),
        ({"0.weight": (0, 1, 1, 1)}, "expected fewer channels"),
        ({"0.weight": (1, 1, 1, 1)}, r"0 \(Conv2d\) cannot have the shapes weight \[1, 1, 1, 1\], bias \[2\]"),
        ({"1.weight": (1,)}, r"1 \(BatchNorm2d\) cannot have"),
        ({"4.weight": (1, 8)}, r"4 \(Linear\) cannot have"),
        ({"5.weight": (1,)}, "did you mean '4.weight'"),
    ],
)
def test_shapes_of_another_network_are_a_mistake(change, message):
    model = nets.flat()
    wanted = shapes(model) | {name: torch.Size(shape) for name, shape in change.items()}
    with pytest.raises(HarpError, match=message):
        resize(model, wanted)


def test_a_missing_tensor_is_a_mistake():
    model = nets.flat()
    wanted = shapes(model)
    del wanted["0.bias"]
    with pytest.raises(HarpError, match=r"lacks the network's tensor 0.bias"):
        resize(model, wanted)


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 3)), "0.weight", (2, 2, 1, 1)),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2, bias=False)), "0.weight", (3, 2, 1, 1)),
        (nn.Sequential(nn.LayerNorm(4)), "0.weight", (3,)),
    ],
)
def test_no_kernel_group_or_layer_norm_shrinks(model, name, shape):
    with pytest.raises(HarpError, match="cannot have the shapes"):
        resize(model, shapes(model) | {name: torch.Size(shape)})

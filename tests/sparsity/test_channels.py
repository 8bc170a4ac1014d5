import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from harp.errors import HarpError
from harp.models import build
from harp.sparsity import ChannelUnits, find_channels, find_sites, find_units, remove, resize
from tests.foreign import FOREIGN, images, varies
from tests.models.counting import macs
from tests.pace import quick
from tests.sparsity import nets
from tests.sparsity.agreeing import agree, half

LOGITS = "its channels are the logits"


def members(model, *shape):
    found = find_channels(model, torch.zeros(2, *shape))
    maps = {g.name: {(s.name, s.axis): s.owner.tolist() for s in g.members} for g in found.groups}
    inputs = {g.name: [(s.name, s.axis) for s in g.consumers] for g in found.groups}
    return maps, inputs, found.fixed


def test_a_chain_has_a_group_per_hidden_layer_and_the_logits_stay():
    maps, inputs, fixed = members(nets.chain(), 2)
    assert maps == {
        "0.weight": {("0.weight", 0): [0, 1, 2], ("0.bias", 0): [0, 1, 2], ("2.weight", 1): [0, 1, 2]},
        "2.weight": {("2.weight", 0): [0, 1, 2, 3], ("2.bias", 0): [0, 1, 2, 3], ("4.weight", 1): [0, 1, 2, 3]},
    }
    assert inputs == {"0.weight": [("2.weight", 1)], "2.weight": [("4.weight", 1)]}
    assert fixed == {"4.weight": LOGITS}


def test_a_channel_is_flattened_into_as_many_inputs_as_it_has_pixels():
    maps, _, _ = members(nets.flat(), 1, 2, 2)
    norm = {(f"1.{what}", 0): [0, 1] for what in ("weight", "bias", "running_mean", "running_var")}
    ends = {("0.weight", 0): [0, 1], ("0.bias", 0): [0, 1], ("4.weight", 1): [0, 0, 0, 0, 1, 1, 1, 1]}
    assert maps == {"0.weight": norm | ends}


def test_a_sum_ties_what_is_added():
    maps, inputs, _ = members(nets.Residual(), 2, 2, 2)
    assert list(maps) == ["stem.weight", "inner.weight"]
    assert set(maps["stem.weight"]) >= {("stem.weight", 0), ("outer.weight", 0), ("outer.bias", 0)}
    assert inputs["stem.weight"] == [("inner.weight", 1), ("head.weight", 1)]


def test_a_concatenation_keeps_what_it_joins_apart():
    maps, _, _ = members(nets.Concatenated(), 2, 2, 2)
    assert maps["first.weight"]["head.weight", 1] == [0, 1, -1, -1, -1]
    assert maps["second.weight"]["head.weight", 1] == [-1, -1, 0, 1, 2]
    assert maps["second.weight"]["norm.running_var", 0] == [-1, -1, 0, 1, 2]


def test_a_gate_is_tied_to_what_it_scales():
    maps, inputs, _ = members(nets.Gated(), 2, 2, 2)
    assert maps["stem.weight"]["excite.weight", 0] == [0, 1, 2, 3]
    assert inputs == {
        "stem.weight": [("squeeze.weight", 1), ("head.weight", 1)],
        "squeeze.weight": [("excite.weight", 1)],
    }


def test_a_gated_linear_unit_ties_the_two_halves_of_one_layer():
    maps, _, _ = members(nets.GatedUnit(), 2)
    assert maps == {
        "both.weight": {
            ("both.weight", 0): [0, 1, 2, 0, 1, 2],
            ("both.bias", 0): [0, 1, 2, 0, 1, 2],
            ("head.weight", 1): [0, 1, 2],
        }
    }


def test_a_slice_of_the_picture_is_none_of_the_channels():
    maps, _, _ = members(nets.Subsampled(), 2, 5, 5)
    assert maps["stem.weight"]["head.weight", 1] == [0, 1, 2]


def test_a_depthwise_filter_goes_with_its_channel():
    maps, inputs, _ = members(nets.depthwise(), 2, 3, 3)
    assert maps["0.weight"]["2.weight", 0] == [0, 1, 2]
    assert inputs["0.weight"] == [("4.weight", 1)]


def test_all_depthwise_filters_of_a_channel_go_with_it():
    maps, inputs, _ = members(nets.depthwise(filters=2), 2, 3, 3)
    assert maps["0.weight"]["2.weight", 0] == maps["0.weight"]["4.weight", 1] == [0, 0, 1, 1, 2, 2]
    assert inputs["0.weight"] == [("4.weight", 1)]


def test_a_unit_of_a_grouped_convolution_is_the_same_offset_in_every_group():
    maps, inputs, _ = members(nets.grouped(), 2, 3, 3)
    assert maps["0.weight"]["0.weight", 0] == [0, 1, 0, 1]
    assert maps["0.weight"]["2.weight", 1] == [0, 1]
    assert maps["2.weight"]["2.weight", 0] == maps["2.weight"]["4.weight", 1] == [0, 1, 2, 0, 1, 2]
    assert inputs == {"0.weight": [("2.weight", 1)], "2.weight": [("4.weight", 1)]}


def test_a_layer_used_twice_is_tied_to_itself():
    maps, inputs, _ = members(nets.Shared(), 2)
    assert list(maps) == ["stem.weight"]
    assert maps["stem.weight"]["layer.weight", 0] == maps["stem.weight"]["layer.weight", 1] == [0, 1, 2]
    assert inputs["stem.weight"] == [("layer.weight", 1), ("head.weight", 1)]


def test_a_weight_of_two_layers_is_one_member_and_ties_both():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
    model[4].weight = model[2].weight
    maps, _, _ = members(model, 2)
    assert list(maps) == ["0.weight"]
    assert [key for key in maps["0.weight"] if "4.weight" in key[0]] == []
    smaller = remove(model, find_channels(model, torch.zeros(2, 2)).groups, {"0.weight": torch.tensor([1, 0, 1]) > 0})
    assert smaller.get_parameter("4.weight") is smaller.get_parameter("2.weight")
    assert smaller.get_parameter("4.weight").shape == (2, 2)


def test_modules_of_two_names_shrink_as_any_other():
    model = nets.Aliased()
    groups = find_channels(model, torch.zeros(2, 2, 3, 3)).groups
    assert {(s.name, s.axis) for s in groups[0].members} >= {("conv.weight", 0), ("norm.weight", 0), ("head.weight", 1)}
    assert agree(model, groups, half(groups), torch.rand(3, 2, 3, 3))
    smaller = remove(model, groups, half(groups))
    assert smaller.get_submodule("features.0") is smaller.get_submodule("conv")
    assert smaller.get_parameter("conv.weight").shape == (2, 2, 1, 1)
    again = nets.Aliased()
    resize(again, {name: tensor.shape for name, tensor in smaller.state_dict().items()})
    again.load_state_dict(smaller.state_dict())


def test_tied_and_aliased_at_once():
    model = nets.TiedAndAliased()
    found = find_channels(model, torch.zeros(2, 2))
    assert found.fixed == {"head.weight": LOGITS}
    assert agree(model, found.groups, half(found.groups), torch.rand(3, 2))


@pytest.mark.parametrize(
    ("model", "sizes"),
    [(nets.OneGate(), {"stem.weight": 4, "body.weight": 6}), (nets.GlobalGate(), {"stem.weight": 4})],
)
def test_a_gate_of_one_channel_ties_nothing(model, sizes):
    found = find_channels(model, torch.zeros(2, 2, 3, 3))
    assert {group.name: group.size for group in found.groups} == sizes
    assert found.fixed == {"one.weight": "its channels are all one unit", "head.weight": LOGITS}
    assert agree(model, found.groups, half(found.groups), torch.rand(3, 2, 3, 3))


@pytest.mark.parametrize("between", [nets.FrozenNorm(4), nets.Blur(4)], ids=["norm", "blur"])
def test_buffers_of_a_channel_go_with_it_and_come_back_from_a_file(between):
    model = nets.constant(between)
    groups = find_channels(model, torch.zeros(2, 2, 4, 4)).groups
    assert [group.name for group in groups] == ["0.weight", "3.weight"]
    for name, buffer in between.named_buffers():
        buffer.copy_(torch.rand(buffer.shape))  # what a file of trained weights brings
        assert (f"1.{name}", 0) in {(s.name, s.axis) for s in groups[0].members}
    assert agree(model, groups, half(groups), torch.rand(3, 2, 4, 4))
    smaller, again = remove(model, groups, half(groups)).eval(), nets.constant(type(between)(4)).eval()
    resize(again, {name: tensor.shape for name, tensor in smaller.state_dict().items()})
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again(x := torch.rand(3, 2, 4, 4)), smaller(x))


@pytest.mark.parametrize("between", [nets.FrozenNorm(4, saved=False), nets.Blur(4, 4)], ids=["unsaved", "fixed number"])
def test_buffers_that_no_smaller_file_or_module_can_follow_keep_their_channels(between):
    found = find_channels(nets.constant(between), torch.zeros(2, 2, 4, 4))
    assert [group.name for group in found.groups] == ["3.weight"]
    assert found.fixed["0.weight"].startswith("the smaller network fails")


def test_a_bare_parameter_is_a_member_however_small_it_starts():
    maps, _, _ = members(nets.Scaled(normed=False), 2)
    assert maps["stem.weight"]["scale", 0] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (nets.Scaled(normed=True), (2,), "LayerNorm norm takes its statistics over these channels"),
        (nets.Mean(), (2,), "removing its channels changes the logits otherwise than silencing them"),
        (nets.Viewed(), (2,), "the smaller network fails (RuntimeError: shape '[-1, 2, 2]' is invalid"),
        (nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2)), (2,), "its channels are all one unit"),
    ],
)
def test_what_cannot_go_says_why(model, shape, reason):
    _, _, fixed = members(model, *shape)
    assert next(iter(fixed.values())).startswith(reason)
    assert LOGITS in fixed.values()


def test_the_network_and_the_global_generator_stay_as_they_are():
    model = build("digits_cnn", classes=10, channels=1, size=8, width=0.1).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    find_channels(model, torch.zeros(1, 1, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_finding_works_where_gradients_are_off_and_repeats_itself():
    with torch.no_grad():
        first = members(nets.Residual(), 2, 2, 2)
    assert first == members(nets.Residual(), 2, 2, 2)


@pytest.mark.parametrize(
    "name", ["vgg16_bn", "vgg16_1fc", "resnet18", "preact_resnet18", "resnet50", "wide_resnet28_4"]
)
def test_our_networks_shrink_everywhere_with_equal_logits(name):
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32, width=0.0625)
    found = find_channels(model, torch.zeros(2, 3, 32, 32))
    assert set(found.fixed.values()) <= {LOGITS, "its channels are all one unit"}
    assert agree(model, found.groups, half(found.groups), torch.rand(3, 3, 32, 32))


# What is left of the multiply-accumulates with one unit in every group, at most. In a transformer only the hidden
# layers of the MLPs can go: its residual stream is normalised over channels, its heads have a fixed width.
LEAST = {
    "convnext": 0.4,
    "levit": 0.1,
    "mobilenet_v2": 0.1,
    "mobilevit": 0.2,
    "poolformer": 0.4,
    "regnet": 0.1,
    "resnet": 0.1,
    "swin": 0.6,
    "vit": 0.7,
}


@pytest.mark.parametrize("name", quick(["resnet", "convnext", "mobilenet_v2"], FOREIGN))
def test_foreign_networks_shrink_with_equal_logits(name):
    model = FOREIGN[name]()
    found = find_channels(model, images(2))
    assert varies(model)
    modes = (False,) if name in ("mobilenet_v2", "mobilevit", "swin") else (False, True)  # three have dropout
    assert agree(model, found.groups, half(found.groups), images(), modes=modes)

    least = {group.name: torch.arange(group.size) == 0 for group in found.groups}
    smaller = remove(model, found.groups, least).eval()
    assert macs(smaller, images(1)) < LEAST[name] * macs(model.eval(), images(1))


def test_activations_that_a_network_caches_with_their_graph_do_not_disturb():
    model = FOREIGN["levit"]().eval()
    model(images(2))  # LeViT keeps its attention biases now, which cannot be copied
    found = find_channels(model, images(2))
    assert agree(model, found.groups, half(found.groups), images(), modes=(False,))
    assert not model.training


def test_a_parametrised_weight_is_a_mistake():
    with pytest.raises(HarpError, match=r"is parametrised.*; prune harp.plain"):
        find_channels(nn.Sequential(weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2)), torch.zeros(1, 2))


def test_logits_that_ignore_the_images_are_a_mistake():
    class Blind(nn.Linear):
        def forward(self, x):
            return super().forward(x * 0)

    with pytest.raises(HarpError, match="do not vary"):
        find_channels(Blind(2, 2), torch.zeros(1, 2))


def test_an_output_that_is_no_tensor_is_a_mistake():
    class Wrapped(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    with pytest.raises(HarpError, match="an object of type dict; expected a tensor of logits"):
        find_channels(Wrapped(2, 2), torch.zeros(1, 2))


def test_without_torch_pruning_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning.dependency", None)
    with pytest.raises(HarpError, match=r"needs torch_pruning; install it with .*'harp-pruning\[structured\]'"):
        find_channels(nets.chain(), torch.zeros(1, 2))


def test_torchvision_is_not_needed(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_pruning"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert len(find_channels(nets.chain(), torch.zeros(1, 2)).groups) == 2


def test_channels_that_a_frozen_weight_makes_or_reads_stay():
    model = nets.chain()
    model.get_parameter("0.weight").requires_grad_(False)
    units = find_units(model, torch.zeros(1, 2), "channels")
    assert units.names == ("2.weight",)
    assert isinstance(units, ChannelUnits)
    assert units.fixed["0.weight"] == "0.weight is frozen"
    model = nets.chain()
    model.get_parameter("2.weight").requires_grad_(False)
    with pytest.raises(HarpError, match=r"0\.weight: 2\.weight is frozen; 2\.weight: 2\.weight is frozen"):
        find_units(model, torch.zeros(1, 2), "channels")
    units = find_units(model, torch.zeros(1, 2), "channels", find_sites(model, ["0", "2.weight", "4"]))
    assert units.names == ("0.weight", "2.weight")


def test_frozen_norms_and_biases_go_with_the_channels():
    model = nets.flat()
    model[1].requires_grad_(False)
    model.get_parameter("0.bias").requires_grad_(False)
    units = find_units(model, torch.zeros(1, 1, 2, 2), "channels")
    assert units.names == ("0.weight",)
    assert isinstance(units, ChannelUnits)
    smaller = remove(model, units.groups, half(units.groups))
    assert [p.requires_grad for p in smaller.parameters()] == [True, False, False, False, True, True]

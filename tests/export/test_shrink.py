from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from harp.export import fold, shrink
from harp.graph import Graph, Node, Ref, Sparse, capture, check, run
from harp.models import MODELS

from .nets import NETS, drawn, images


def same(graph, small, x, tolerance=1e-12):
    expected = run(graph, x)
    return bool((run(small, x) - expected).abs().max() <= tolerance * max(1, expected.abs().max()))


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    density=st.sampled_from([0.03, 0.1, 0.3, 1.0]),
    filters=st.sampled_from([0.2, 0.5, 1.0]),
    biases=st.sampled_from([0.0, 1.0]),
)
def test_the_logits_stay(name, seed, density, filters, biases):
    graph = drawn(name, seed, density, filters, biases)
    found = shrink(graph)
    check(found.graph)
    assert same(graph, found.graph, images())
    assert all(found.effective[key] <= found.nominal[key] for key in found.nominal)
    if not found.collapsed:
        again = shrink(found.graph)
        assert {key: again.effective[key] for key in again.effective if again.effective[key]} == {
            key: count for key, count in found.effective.items() if count
        }
        assert not any(again.removed.values())
    else:
        assert torch.equal(run(graph, images(2, seed=1)), run(graph, images(2, seed=2)))


def ring(weight):
    """A 3 x 3 kernel of ones, times weights [out, in]."""
    return torch.tensor(weight, dtype=torch.float64)[:, :, None, None].expand(-1, -1, 3, 3).contiguous()


def two_layers(first, bias, second, padding):
    """conv, relu, conv, mean, over one channel."""
    pads = ((1, 1), (1, 1), (1, 1), 1)
    nodes = (
        Node("a", "conv2d", (Ref("x"), Ref("a.weight"), Ref("a.bias"), *pads)),
        Node("r", "relu", (Ref("a"),)),
        Node("b", "conv2d", (Ref("r"), Ref("b.weight"), None, (1, 1), (padding, padding), (1, 1), 1)),
        Node("y", "mean.dim", (Ref("b"), (2, 3), False, None)),
    )
    tensors = {"a.weight": ring(first), "a.bias": torch.tensor(bias, dtype=torch.float64), "b.weight": ring(second)}
    return Graph("x", (1, 5, 5), nodes, "y", tensors)


def picture():
    return torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


FIRST, BIAS, SECOND = (
    [[1.0], [0.0], [0.0], [0.0], [2.0]],
    [0.1, 2.0, -1.0, 4.0, 0.3],
    [[1.0, 3, 5, 7, 0], [0, 0, 1, 0, 0]],
)


def test_under_padding_one_constant_carries_the_others():
    graph = two_layers(FIRST, BIAS, SECOND, padding=1)
    found = shrink(graph)
    # Channel 2 is relu(-1) = 0 and channel 4 unread: both go. Channels 1 and 3 are 2 and 4; the larger stands for both.
    assert found.graph.tensor("a.bias").tolist() == [0.1, 4.0]
    assert torch.equal(found.graph.tensor("a.weight"), ring([[1.0], [0.0]]))
    assert torch.equal(found.graph.tensor("b.weight"), ring([[1.0, 7 + 3 * 2 / 4], [0.0, 0.0]]))
    assert found.constants == 1
    assert found.removed == {"a.weight": 3, "b.weight": 0}
    assert found.nominal == {"a.weight": 18, "b.weight": 45}
    assert found.effective == {"a.weight": 9, "b.weight": 18}
    assert same(graph, found.graph, picture())


def test_float32_is_computed_in_float64_and_rounded_once():
    bias = [0.1, 1 / 3, -1.0, 0.7, 0.3]
    wide = two_layers(FIRST, bias, SECOND, padding=1)
    narrow = replace(wide, tensors={key: tensor.float() for key, tensor in wide.tensors.items()})
    again = replace(wide, tensors={key: tensor.double() for key, tensor in narrow.tensors.items()})
    small, exact = shrink(narrow).graph, shrink(again).graph
    assert all(torch.equal(small.tensor(key), exact.tensor(key).float()) for key in exact.tensors)
    assert small.tensor("b.weight").dtype == torch.float32


def test_without_padding_constants_go_into_the_bias():
    graph = two_layers(FIRST, BIAS, SECOND, padding=0)
    found = shrink(graph)
    assert found.graph.tensor("b.bias").tolist() == [9 * (3 * 2 + 7 * 4), 0]
    assert found.graph.tensor("b.weight").shape == (2, 1, 3, 3)
    assert found.constants == 2
    assert same(graph, found.graph, picture())


def test_a_filter_of_constants_alone_is_none_at_the_border():
    second = [[0.0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    graph = two_layers(FIRST, BIAS, second, padding=1)
    found = shrink(graph)
    assert torch.equal(found.graph.tensor("b.weight"), ring([[0.0, 1.5], [1.0, 0.0]]))
    assert same(graph, found.graph, picture())
    assert torch.equal(
        shrink(two_layers(FIRST, BIAS, second, padding=0)).graph.tensor("b.weight"), ring([[0.0], [1.0]])
    )


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        return self.head((self.a(x) + self.b(x)).relu()).mean((2, 3))


def summed(dead_a, dead_b, unread=()):
    torch.manual_seed(0)
    model = Sum().double()
    with torch.no_grad():
        model.a.weight[list(dead_a)], model.b.weight[list(dead_b)], model.head.weight[:, list(unread)] = 0, 0, 0
        model.get_parameter("a.bias")[3], model.get_parameter("b.bias")[3] = 1, 1
    graph = capture(model, images())
    return graph, shrink(graph)


@pytest.mark.parametrize(
    ("dead", "left"),
    [
        (([0], []), 4),  # the other still varies
        (([0, 3], [3]), 4),  # the one constant channel, 2, is read
        (([0, 3], [1, 3], [0]), 3),
        (([2, 3], [2, 3], [2]), 3),
        (([], [], [0, 1]), 2),
    ],
)
def test_a_channel_of_a_sum_goes_where_all_that_is_summed_can(dead, left):
    graph, found = summed(*dead)
    assert found.graph.tensor("head.weight").shape[1] == left
    assert same(graph, found.graph, images())


def test_a_summand_that_is_constant_is_a_table_and_one_of_zeros_is_gone():
    graph, found = summed((), (0, 1, 2, 3))
    assert [node.op for node in found.graph.nodes].count("conv2d") == 2
    assert same(graph, found.graph, images())
    tensors = {**graph.tensors, "b.bias": torch.zeros(4, dtype=torch.float64)}
    bare = replace(graph, tensors=tensors)
    small = shrink(bare).graph
    assert [node.op for node in small.nodes] == ["conv2d", "relu", "conv2d", "mean.dim"]
    assert same(bare, small, images())


@pytest.mark.parametrize("name", NETS)
def test_a_network_without_a_path_is_collapsed(name):
    graph = drawn(name, 1, density=1.0, filters=1.0)
    first = next(node.args[1].name for node in graph.nodes if node.op == "conv2d")
    graph = replace(graph, tensors={**graph.tensors, first: torch.zeros_like(graph.tensor(first))})
    found = shrink(graph)
    assert found.collapsed
    assert not any(found.effective.values())
    assert found.removed == {key: graph.tensors[key].shape[0] for key in found.nominal}
    assert same(graph, found.graph, images(5))


def test_borders_alone_are_no_path():
    """A constant under padding makes what varies over positions, not over images."""
    graph = two_layers([[0.0], [0.0]], [1.0, 2.0], [[1.0, 1.0]], padding=1)
    found = shrink(graph)
    assert found.collapsed
    assert same(graph, found.graph, picture())


def test_a_weight_two_layers_share_is_cut_for_each():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.side, self.head = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Linear(2, 3)

        def forward(self, x):
            return self.head(self.conv(self.side(self.conv(x)).relu()).mean((2, 3)))

    torch.manual_seed(0)
    model = Shared().double()
    with torch.no_grad():
        model.head.weight[:, 0], model.side.weight[1] = 0, 0
    graph = capture(model, images())
    found = shrink(graph)
    assert [node.args[1].name for node in found.graph.nodes if node.op == "conv2d"].count("conv.weight") == 1
    assert same(graph, found.graph, images())


def test_grouped_convolutions_keep_their_channels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(90, 4))
    with torch.no_grad():
        model.get_parameter("0.weight")[0], model.get_parameter("2.weight")[1] = 0, 0
    graph = capture(model.double(), images())
    found = shrink(graph)
    assert not any(found.removed.values())
    assert same(graph, found.graph, images())


def test_sparse_tensors_stay_sparse_and_the_graph_is_left_as_it_was():
    graph = drawn("relu", 3, density=0.5, filters=0.8)
    before = {key: value.clone() for key, value in graph.tensors.items()}
    sparse = replace(graph, tensors={k: Sparse.of(v) if v.ndim > 1 else v for k, v in graph.tensors.items()})
    found, dense = shrink(sparse).graph, shrink(graph).graph
    assert all(isinstance(tensor, Sparse) == (len(tensor.shape) > 1) for tensor in found.tensors.values())
    assert all(torch.equal(found.tensor(key), dense.tensor(key)) for key in dense.tensors)
    assert all(torch.equal(value, before[key]) for key, value in graph.tensors.items())


def test_nothing_to_remove_leaves_the_graph_bit_for_bit():
    graph = drawn("residual", 0, density=1.0, filters=1.0)
    found = shrink(graph)
    assert found.graph == graph
    assert found.nominal == found.effective


def pruned(name, seed, keep):
    """A network of ours at half its width, its channels of very different importance, in float64."""
    torch.manual_seed(seed)
    model = MODELS[name](classes=10, channels=3, size=32, width=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0, 0.2)
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            score = torch.rand_like(weight) * torch.randn(len(weight), *[1] * (weight.ndim - 1)).mul(1.5).exp()
            weight[score < score.flatten().kthvalue(int((1 - keep) * weight.numel())).values] = 0
    return model.double().eval()


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet18"])
def test_our_networks_lose_most_of_what_heavy_tails_leave(name):
    model, x = pruned(name, 0, 0.02), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    graph = fold(capture(model, x))
    found = shrink(graph)
    assert same(graph, found.graph, x)
    assert not found.collapsed
    assert sum(found.effective.values()) < 0.8 * sum(found.nominal.values())
    assert sum(found.removed.values()) > 100
    with torch.no_grad():
        assert torch.allclose(run(found.graph, x), model(x), rtol=1e-12)

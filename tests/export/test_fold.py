import pytest
import torch
from torch import nn

from harp.export import fold
from harp.graph import Graph, Node, Ref, Sparse, capture, run
from harp.models import MODELS


def images(count=3, channels=2, size=7, dtype=torch.float64):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def lively(model, dtype=torch.float64):
    """Batch norms with statistics and scales of their own, some of them negative."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                if tensor is not None:
                    tensor.data.normal_(generator=generator)
            assert module.running_var is not None
            module.running_var.uniform_(0.1, 2, generator=generator)
    return model.to(dtype).eval()


def ops(graph):
    return [node.op for node in graph.nodes if node.op != "sym_size.int"]


def close(graph, other, x, tolerance=1e-12):
    expected = run(graph, x)
    return ((run(other, x) - expected).abs().max() <= tolerance * expected.abs().max()).item()


def tail(channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]


CASES = {
    "convolution": [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *tail(4)],
    "with a bias": [nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), *tail(4)],
    "groups": [nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), *tail(4)],
    "transposed": [nn.ConvTranspose2d(2, 5, 3, stride=2), nn.BatchNorm2d(5), *tail(5)],
    "without scale": [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False), *tail(4)],
    "linear": [nn.Flatten(), nn.Linear(98, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4), nn.BatchNorm1d(4)],
}


@pytest.mark.parametrize("name", CASES)
def test_batch_norms_go_into_the_layer_before(name):
    torch.manual_seed(0)
    graph = capture(lively(nn.Sequential(*CASES[name])), images())
    folded = fold(graph)
    assert "batch_norm" in ops(graph)
    assert ops(folded) == [op for op in ops(graph) if op != "batch_norm"]
    assert close(graph, folded, images())


class Early(nn.Module):
    """Norm, activation, convolution; the first convolution's output is read twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        x = self.first(x)
        return self.head((x + self.second(self.norm(x).relu())).mean((2, 3)))


class Tokens(nn.Module):
    """The channels of a linear layer are the last axis, those of its batch norm the axis after the images."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(7, 5)
        self.norm = nn.BatchNorm1d(14)

    def forward(self, x):
        return self.norm(self.linear(x.flatten(1, 2))).flatten(1)


@pytest.mark.parametrize("model", [Early(), Tokens()], ids=["read twice", "another axis"])
def test_what_cannot_be_folded_stays(model):
    graph = capture(lively(model), images())
    assert ops(fold(graph)) == ops(graph)
    assert close(graph, fold(graph), images())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(2), nn.BatchNorm2d(2)])

    def forward(self, x):
        for norm in self.norms:
            x = norm(self.conv(x)).relu()
        return x.mean((2, 3))


def test_a_tied_weight_is_folded_once_for_each_reader():
    graph = capture(lively(Twice()), images())
    folded = fold(graph)
    assert "batch_norm" not in ops(folded)
    assert len({node.args[1] for node in folded.nodes if node.op == "conv2d"}) == 2
    assert close(graph, folded, images())


def test_zeros_stay_zeros_and_sparse_stays_sparse():
    torch.manual_seed(0)
    model = lively(nn.Sequential(*CASES["convolution"]))
    model[0].weight.data[torch.rand(4, 2, 3, 3) < 0.5] = 0
    graph = capture(model, images())
    before = Sparse.of(graph.tensor("0.weight"))
    for tensors in (graph.tensors, {**graph.tensors, "0.weight": before}):
        after = fold(Graph(graph.input, graph.shape, graph.nodes, graph.output, tensors))
        assert torch.equal(Sparse.of(after.tensor("0.weight")).index, before.index)
        assert type(after.tensors["0.weight"]) is type(tensors["0.weight"])


def test_weights_made_of_weights_are_weights():
    nodes = (
        Node("n", "sym_size.int", (Ref("w"), 0)),
        Node("abs", "abs", (Ref("w"),)),
        Node("parts", "split_with_sizes", (Ref("abs"), (1, 2), 1)),
        Node("part", "getitem", (Ref("parts"), 1)),
        Node("h", "linear", (Ref("x"), Ref("part"), None)),
        Node("y", "view", (Ref("h"), (-1, Ref("n")))),
    )
    graph = Graph("x", (2,), nodes, "y", {"w": torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])})
    folded = fold(graph)
    assert ops(folded) == ["linear", "view"]
    assert folded.tensor("part").tolist() == [[2, 3], [5, 6]]
    assert torch.equal(run(folded, torch.ones(1, 2)), torch.tensor([[5.0, 11.0]]))


def test_float32_is_rounded_once():
    torch.manual_seed(0)
    graph = capture(lively(nn.Sequential(*CASES["convolution"]), torch.float32), images(dtype=torch.float32))
    weight, scale = graph.tensor("0.weight").double(), graph.tensor("1.weight").double()
    factor = scale / (graph.tensor("1.running_var").double() + 1e-5).sqrt()
    expected = (weight * factor.view(-1, 1, 1, 1)).float()
    assert torch.allclose(fold(graph).tensor("0.weight"), expected, rtol=6e-8, atol=0)


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet18"])
def test_our_networks_lose_every_batch_norm(name):
    torch.manual_seed(0)
    model = lively(MODELS[name](classes=10, channels=3, size=32, width=0.125))
    x = images(channels=3, size=32)
    graph = capture(model, x)
    folded = fold(graph)
    assert "batch_norm" not in ops(folded)
    assert folded.tensors.keys() > {name for name in graph.tensors if graph.tensor(name).ndim > 1}
    assert close(graph, folded, x)

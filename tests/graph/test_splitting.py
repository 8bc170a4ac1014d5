import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from harp.errors import HarpError
from harp.graph import capture, check, run
from harp.graph.operators import OPERATORS
from tests.graph.test_capture import Net, X

FUNCTIONS = {
    "var": lambda self, x: x / (x.var(1, unbiased=False, keepdim=True) + 0.5),
    "std": lambda self, x: x / (x.std(1, keepdim=True) + 0.1),
    "std_mean": lambda self, x: x + torch.std_mean(x, (2, 3), keepdim=True)[1] * torch.std_mean(x, 1, False, True)[0],
    "cosine": lambda self, x: x * F.cosine_similarity(x, x.flip(3), dim=1)[:, None],
    "one_hot": lambda self, x: x * F.one_hot(x.argmax(1), 2).permute(0, 3, 1, 2),
    "hstack": lambda self, x: torch.hstack([x, x * 2])[:, ::2],
    "diff": lambda self, x: x.diff(dim=-1),
    "nearest-exact": lambda self, x: F.interpolate(x, scale_factor=1.5, mode="nearest-exact"),
    "isclose": lambda self, x: x * torch.isclose(x, x.flip(3)).float(),
    "rrelu": lambda self, x: F.rrelu(x - 0.5),
    "count": lambda self, x: x * x.count_nonzero(1)[:, None],
    "alpha": lambda self, x: F.alpha_dropout(x, training=False),
}


class All(nn.Module):
    """The mean of what each function makes, a column for each of its channels: tracing takes most of the time."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return torch.cat([function(self, x).float().mean((2, 3)) for function in FUNCTIONS.values()], 1)


def test_operators_that_stand_for_others_are_taken_apart_for_any_number_of_images():
    model = All().eval()
    graph = capture(model, X)
    check(graph)
    assert graph.batch is None
    assert {node.op for node in graph.nodes} <= OPERATORS
    assert graph.nodes[0].op == "conv2d"
    flat = X.clone()
    flat[0] = 0.5  # where maxima tie
    with torch.no_grad():
        for images in (X, flat, X[:1], torch.cat([X, X])):
            assert torch.allclose(run(graph, images), model(images), rtol=1e-5, atol=1e-6)


def test_what_pytorch_computes_of_weights_alone_is_computed_at_once():
    """An orthogonal weight takes a matrix exponential, a normed one a product of matrix and vector."""
    torch.manual_seed(0)
    layers = [parametrizations.orthogonal(nn.Linear(72, 8)), parametrizations.spectral_norm(nn.Linear(8, 5))]
    model = nn.Sequential(nn.Flatten(), *layers, parametrizations.weight_norm(nn.Linear(5, 3))).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = capture(model, X)
    check(graph)
    with torch.no_grad():
        assert torch.allclose(run(graph, X), model(X), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Parts(nn.Module):
    """A weight that is one of several results."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(72, 3))

    def forward(self, x):
        return x.flatten(1) @ torch.linalg.qr(self.weight)[0]


def test_one_of_several_results_of_weights_alone_is_picked():
    model = Parts()
    with torch.no_grad():
        assert torch.allclose(run(capture(model, X), X), model(X), atol=1e-6)


RANDOM = {
    "dropout": lambda self, x: F.dropout(x),
    "noise": lambda self, x: x + torch.rand(6),
    "depth": lambda self, x: x * torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), 0.5)),
}


@pytest.mark.parametrize("function", RANDOM.values(), ids=RANDOM)
def test_what_draws_numbers_is_refused(function):
    with pytest.raises(HarpError, match=r"uses \w+(\.\w+)? in eval mode: the network is random"):
        capture(Net(function), X)


def test_what_neither_can_be_kept_nor_taken_apart_is_named():
    with pytest.raises(HarpError, match="uses logcumsumexp, an operator that no graph may use"):
        capture(Net(lambda self, x: x.logcumsumexp(1)), X)

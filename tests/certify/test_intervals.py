"""Bounds by intervals hold: against closed forms, grids, samples and PGD."""

import itertools

import pytest
import torch
from torch import nn

from harp.attacks import PGD
from harp.certify import FLOAT64, Bounds, Interval
from harp.errors import HarpError
from harp.graph import Graph, Interpreter, Node, Ref, capture
from harp.models import Function
from harp.randomness import generator
from harp.threats import Threat
from tests.certify.drawn import Drawn


def apart(logits, y):
    """How far the right logit is above the best other, [n]."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def inside(x, threat, count, seed):
    """Images in the ball: `count` drawn from its corners, and as many from all of it."""
    noise = torch.Generator().manual_seed(seed)
    delta = torch.rand(2 * count, *x.shape[1:], generator=noise, dtype=torch.float64) * 2 - 1
    delta[:count] = delta[:count].sign()
    return (x.double() + threat.eps * delta).clamp(threat.low, threat.high)


def check(seed):
    """A drawn network at one image: no sample and no attack is below the bound, in float64 and in float32."""
    graph = Drawn(seed).graph()
    noise = torch.Generator().manual_seed(seed)
    x, threat = torch.rand(1, *graph.shape, generator=noise), Threat(eps=10.0 ** -(seed % 4))
    single, exact = Interpreter(graph), Interpreter(doubled(graph))
    y = single(x).argmax(1)
    bound = Bounds(graph).margins(x, y, threat)
    assert bound.item() < torch.inf
    seen = inside(x, threat, 100, seed)
    labels = y.expand(len(seen))
    assert apart(exact(seen), labels).min() >= bound
    # In float32 images are rounded, and so is every sum.
    assert apart(single(seen.float()).double(), labels).min() >= bound
    adv = PGD(steps=10, loss="margin")(Function(single).eval(), x, y, threat, generator(seed, "intervals"))
    assert apart(single(adv).double(), y) >= bound
    return bound.item() > 0


def doubled(graph):
    tensors = {name: tensor.double() for name, tensor in graph.tensors.items()}
    return Graph(graph.input, graph.shape, graph.nodes, graph.output, tensors)


def test_no_sample_and_no_attack_beats_the_bounds_of_forty_drawn_networks():
    proved = sum(check(seed) for seed in range(40))
    assert proved >= 10  # which says that the bounds are not all minus infinity


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_sample_and_no_attack_beats_the_bounds_of_1000_drawn_networks():
    assert sum(check(seed) for seed in range(1000)) >= 250


def linear_graph(weight, bias, shape):
    nodes = (
        Node("flat", "flatten.using_ints", (Ref("x"), 1, -1)),
        Node("out", "linear", (Ref("flat"), Ref("w"), Ref("b"))),
    )
    return Graph("x", shape, nodes, "out", {"w": weight, "b": bias})


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
def test_a_linear_network_has_the_margin_of_the_closed_form(eps):
    """Of each other class: (w_y - w_j) x + b_y - b_j, less each |w_y - w_j| times as far as its pixel can go."""
    noise = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 12, generator=noise), torch.randn(5, generator=noise)
    x, y = torch.rand(20, 3, 2, 2, generator=noise), torch.randint(0, 5, (20,), generator=noise)
    found = Bounds(linear_graph(weight, bias, (3, 2, 2)), FLOAT64).margins(x, y, Threat(eps=eps))
    for image, label, margin in zip(x.double().flatten(1), y, found, strict=True):
        expected = []
        for other in {0, 1, 2, 3, 4} - {int(label)}:
            apart = (weight[label].double() - weight[other].double()).tolist()
            total = bias[label].item() - bias[other].item()
            for w, pixel in zip(apart, image.tolist(), strict=True):
                total += w * (max(0.0, pixel - eps) if w > 0 else min(1.0, pixel + eps))
            expected.append(total)
        assert margin.item() == pytest.approx(min(expected), abs=1e-6)
        assert margin.item() <= min(expected)


def test_on_two_pixels_no_point_of_a_grid_is_below_the_bound_and_a_fine_ball_is_nearly_exact():
    torch.manual_seed(0)
    sides = torch.linspace(-1, 1, 41, dtype=torch.float64)
    grid = torch.tensor(list(itertools.product(sides.tolist(), repeat=2)), dtype=torch.float64).view(-1, 1, 1, 2)
    for _ in range(20):
        first, second = nn.Linear(2, 6), nn.Linear(6, 3)
        tensors = {"v": first.weight, "c": first.bias, "w": second.weight, "b": second.bias}
        nodes = (
            Node("flat", "flatten.using_ints", (Ref("x"), 1, -1)),
            Node("hidden", "linear", (Ref("flat"), Ref("v"), Ref("c"))),
            Node("act", "relu", (Ref("hidden"),)),
            Node("out", "linear", (Ref("act"), Ref("w"), Ref("b"))),
        )
        graph = Graph("x", (1, 1, 2), nodes, "out", {name: tensor.detach() for name, tensor in tensors.items()})
        x = torch.rand(1, 1, 1, 2)
        y = Interpreter(graph)(x).argmax(1)
        for eps in (0.3, 1e-6):
            points = (x.double() + eps * grid).clamp(0, 1)
            least = apart(Interpreter(doubled(graph))(points), y.expand(len(points))).min()
            bound = Bounds(graph, FLOAT64).margins(x, y, Threat(eps=eps)).item()
            assert bound <= least
            assert eps > 0.1 or least - bound < 1e-4


def test_sums_that_cancel_are_bound_with_what_float32_makes_of_them():
    """Exactly the margin is 0.5; in float32 the large numbers swallow it, in one order of the sum or another."""
    weight = torch.tensor([[2.0**25, 0.5, -(2.0**25)], [0.0, 0.0, 0.0]])
    graph = linear_graph(weight, torch.zeros(2), (3, 1, 1))
    x, y, point = torch.ones(1, 3, 1, 1), torch.tensor([0]), Threat(eps=0.0)
    assert Interpreter(graph)(x)[0, 0] == 0.0
    assert Bounds(graph).margins(x, y, point) < 0
    assert Bounds(graph, FLOAT64).margins(x, y, point).item() == pytest.approx(0.5, abs=1e-3)


def test_what_overflows_proves_nothing():
    weight = torch.tensor([[3e38, 3e38], [0.0, 0.0]])
    graph = linear_graph(weight, torch.zeros(2), (2, 1, 1))
    assert Bounds(graph).margins(torch.ones(1, 2, 1, 1), torch.tensor([0]), Threat(eps=0.01)) == -torch.inf


def test_every_logit_is_within_its_bounds():
    graph = Drawn(3).graph()
    low, high = Bounds(graph).logits(Interval(torch.zeros(1, *graph.shape), torch.ones(1, *graph.shape)))
    logits = Interpreter(graph)(torch.rand(200, *graph.shape))
    assert (logits >= low).all()
    assert (logits <= high).all()


def test_a_captured_network_is_bound_and_one_for_one_image_at_a_time_likewise():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ]
    model = nn.Sequential(*layers).eval()
    graph, x = capture(model, torch.rand(2, 1, 4, 4)), torch.rand(5, 1, 4, 4)
    y, threat = model(x).argmax(1), Threat(eps=0.01)
    found = Bounds(graph).margins(x, y, threat)
    assert (found > 0).any()
    alone = Bounds(Graph(graph.input, graph.shape, graph.nodes, graph.output, graph.tensors, 1)).margins(x, y, threat)
    assert torch.allclose(found, alone)


def test_what_is_not_known_is_refused_by_name():
    softmax = Graph("x", (2, 1, 1), (Node("n", "softmax.int", (Ref("x"), 1, None)),), "n", {})
    with pytest.raises(HarpError, match=r"no rule for the operator 'softmax\.int' \(node 'n'\)"):
        Bounds(softmax)
    weight = torch.eye(2)
    nodes = (
        Node("flat", "flatten.using_ints", (Ref("x"), 1, -1)),
        Node("w", "neg", (Ref("v"),)),
        Node("out", "linear", (Ref("flat"), Ref("w"), None)),
    )
    computed = Graph("x", (2, 1, 1), nodes, "out", {"v": weight})
    with pytest.raises(HarpError, match=r"only where its weights are fixed numbers"):
        Bounds(computed).margins(torch.rand(1, 2, 1, 1), torch.tensor([0]), Threat())
    half = linear_graph(weight.bfloat16(), torch.zeros(2).bfloat16(), (2, 1, 1))
    with pytest.raises(HarpError, match="computes in bfloat16"):
        Bounds(half)
    plain = Bounds(linear_graph(weight, torch.zeros(2), (2, 1, 1)))
    with pytest.raises(HarpError, match=r"the threat is L2, eps 0\.5"):
        plain.margins(torch.rand(1, 2, 1, 1), torch.tensor([0]), Threat(2, 0.5))

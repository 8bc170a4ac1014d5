"""What docs/format.md says of the engine's numbers, held."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from harp.graph import Graph, Node, Ref, run
from harp.runtime import compile
from tests.runtime.graphs import HERE, NOISE, conv, graphs


def reached(graph: Graph, x: Tensor) -> Tensor:
    """Which logits a NaN of `x` reaches through weights that are not zero: positive numbers, where none cancels."""
    ones = {name: (graph.tensor(name) != 0).to(torch.float32) for name in graph.tensors}
    plain = Graph(graph.input, graph.shape, graph.nodes, graph.output, ones)
    return run(plain, x.isnan().to(torch.float32)) > 0


def network(density: float, stride: int) -> Graph:
    """Two convolutions without biases, a maximum and a sparse head."""
    kept = torch.rand(6, 4, 3, 3, generator=NOISE) < density
    tensors = {"a.w": torch.randn(4, 2, 3, 3, generator=NOISE), "b.w": torch.randn(6, 4, 3, 3, generator=NOISE) * kept}
    nodes = [conv("a", "x", stride, 1, 1, 1, False), Node("r", "relu", (Ref("a"),)), conv("b", "r", 1, 1, 1, 1, False)]
    nodes.append(Node("p", "max_pool2d", (Ref("b"), (2, 2), (2, 2), (0, 0), (1, 1), False)))
    size = 6 * (8 // stride // 2) ** 2
    tensors["h.w"] = torch.randn(5, size, generator=NOISE) * (torch.rand(5, size, generator=NOISE) < 0.03)
    nodes += [Node("f", "flatten.using_ints", (Ref("p"), 1, -1)), Node("y", "linear", (Ref("f"), Ref("h.w"), None))]
    return Graph("x", (2, 8, 8), tuple(nodes), "y", tensors)


@pytest.mark.parametrize("variant", HERE)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("density", [0.03, 0.3, 1.0])
def test_nan_reaches_what_is_read_and_nothing_that_pytorch_keeps_clean(variant: str, stride: int, density: float):
    graph, seen = network(density, stride), 0
    engine = compile(graph, variant=variant)
    x = torch.rand(20, 2, 8, 8, generator=NOISE)
    for image in range(0, 20, 2):
        x[image, image % 2, image % 8, image // 3] = float("nan")
    for images in (x, x[:1], x[1:2]):
        made, least, most = engine(images).isnan(), reached(graph, images), run(graph, images).isnan()
        assert bool((made | ~least).all())
        assert bool((most | ~made).all())
        assert not bool(made[images.isfinite().flatten(1).all(1)].any())
        seen += int(least.sum())
    assert seen > 0


@pytest.mark.parametrize("variant", HERE)
@settings(max_examples=40)
@given(graph=graphs(), kind=st.sampled_from([float("nan"), float("inf"), -float("inf"), 3e38]))
def test_what_one_image_holds_is_that_images_affair(variant: str, graph: Graph, kind: float):
    """Others in its batch, and those after it, keep every bit."""
    engine = compile(graph, variant=variant)
    x = torch.randn(18, *graph.shape, generator=NOISE)
    clean = engine(x)
    broken = x.clone()
    broken[3] = kind
    assert torch.equal(engine(broken)[torch.arange(18) != 3], clean[torch.arange(18) != 3])
    assert torch.equal(engine(x), clean)
    engine(broken[3:4])
    assert torch.equal(engine(x[:1]), engine(x[:1]))
    assert bool(engine(x[:1]).isfinite().all())

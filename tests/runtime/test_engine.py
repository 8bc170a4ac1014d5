"""The engine gives what PyTorch gives, whatever the graph."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from harp.errors import HarpError
from harp.graph import Graph, Node, Ref
from harp.runtime import Engine, Fallback, compile, compiling, native
from tests.runtime.graphs import HERE, conv, error, graphs, one


@pytest.mark.parametrize("variant", sorted({*HERE, "torch"}))
@settings(max_examples=120)
@given(graph=graphs(), images=st.sampled_from([1, 2, 5, 17]))
def test_any_graph(variant: str, graph: Graph, images: int):
    x = torch.rand(images, *graph.shape, generator=torch.Generator().manual_seed(images)) * 2 - 1
    mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= max(1e-5, 3 * torchs)


@pytest.mark.parametrize("variant", HERE)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), images=st.sampled_from([1, 2, 17]), threads=st.sampled_from([2, 3, 7]))
def test_threads_that_divide_an_image_change_no_bit(
    variant: str, graph: Graph, images: int, threads: int, monkeypatch: pytest.MonkeyPatch
):
    x = torch.rand(images, *graph.shape, generator=torch.Generator().manual_seed(images)) * 2 - 1
    alone = compile(graph, variant=variant)(x)
    monkeypatch.setattr(compiling, "WORTH", 1)
    assert torch.equal(compile(graph, threads=threads, variant=variant)(x), alone)


@pytest.mark.parametrize("variant", HERE)
def test_a_single_tap_moves_the_image(variant: str):
    """A 3 x 3 kernel with one weight of 1 shifts the image by one, zeros coming in at the border."""
    x = torch.arange(1.0, 1 + 32 * 32).view(1, 1, 32, 32)
    for dy, dx in itertools.product(range(3), range(3)):
        weight = torch.zeros(1, 1, 3, 3)
        weight[0, 0, dy, dx] = 1
        made = compile(one(weight, (1, 32, 32)), variant=variant)(x).view(32, 32)
        padded = torch.nn.functional.pad(x[0, 0], (1, 1, 1, 1))
        assert torch.equal(made, padded[dy : dy + 32, dx : dx + 32])


@pytest.mark.parametrize("variant", HERE)
@pytest.mark.parametrize("size", [1, 2, 4, 5, 7, 8, 14, 16, 20, 28, 31, 32, 56, 112, 224, 300])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("density", [0.003, 0.1, 1.0])
def test_sizes_of_real_networks(variant: str, size: int, stride: int, density: float):
    noise = torch.Generator().manual_seed(size)
    weight = torch.randn(12, 16, 3, 3, generator=noise) * (torch.rand(12, 16, 3, 3, generator=noise) < density)
    x = torch.randn(2, 16, size, size, generator=noise)
    graph = one(weight, (16, size, size), stride=stride)
    mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= max(1e-6, 3 * torchs)


@pytest.mark.parametrize("variant", HERE)
@pytest.mark.parametrize("size", [2, 4, 8, 16, 32, 64, 24])
@pytest.mark.parametrize("density", [0.005, 0.1, 1.0])
def test_pooling_after_a_convolution(variant: str, size: int, density: float):
    noise = torch.Generator().manual_seed(size)
    weight = torch.randn(10, 8, 3, 3, generator=noise) * (torch.rand(10, 8, 3, 3, generator=noise) < density)
    nodes = (
        conv("c", "x", 1, 1, 1, 1, bias=False),
        Node("r", "leaky_relu", (Ref("c"), 0.1)),
        Node("p", "max_pool2d", (Ref("r"), (2, 2), (2, 2), (0, 0), (1, 1), False)),
        conv("d", "p", 1, 1, 1, 1, bias=False),
        Node("y", "flatten.using_ints", (Ref("d"), 1, -1)),
    )
    tensors = {"c.w": weight, "d.w": torch.randn(3, 10, 3, 3, generator=noise)}
    graph = Graph("x", (8, size, size), nodes, "y", tensors)
    x = torch.randn(2, 8, size, size, generator=noise)
    mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= max(1e-6, 3 * torchs)


@pytest.mark.parametrize("variant", HERE)
def test_same_images_same_logits_alone_and_in_a_batch(variant: str):
    """Blocks and single images add in other orders, so equal to rounding; threads change no bit."""
    noise = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 40, 3, 3, generator=noise) * (torch.rand(40, 40, 3, 3, generator=noise) < 0.1)
    graph = one(weight, (40, 4, 4))
    x = torch.randn(70, 40, 4, 4, generator=noise)
    engine = compile(graph, variant=variant)
    whole = engine(x)
    alone = torch.cat([engine(part) for part in x.split(1)])
    assert (whole - alone).abs().max() <= 1e-5 * whole.abs().max()
    assert torch.equal(engine(x), whole)
    for threads in (2, 3, 8):
        assert torch.equal(compile(graph, threads=threads, variant=variant)(x), whole)


def test_nan_and_infinity_pass_through():
    graph = one(torch.ones(1, 1, 1, 1), (1, 2, 2), padding=0)
    x = torch.tensor([[float("nan"), float("inf")], [-float("inf"), 1.0]]).view(1, 1, 2, 2)
    nodes = (graph.nodes[0], Node("r", "relu", (Ref("c"),)), Node("y", "flatten.using_ints", (Ref("r"), 1, -1)))
    made = compile(Graph("x", (1, 2, 2), nodes, "y", graph.tensors))(x)
    assert made.isnan().tolist() == [[True, False, False, False]]
    assert made[0, 1:].tolist() == [float("inf"), 0.0, 1.0]


@pytest.mark.parametrize("variant", HERE)
@pytest.mark.parametrize(("size", "stride"), [(4, 2), (16, 2), (5, 1)])
def test_nan_is_the_largest(variant: str, size: int, stride: int):
    """In every place of the window, on one image and on a block, after a convolution that leaves images as they are."""
    nodes = (
        conv("c", "x", 1, 0, 1, 1, bias=False),
        Node("p", "max_pool2d", (Ref("c"), (2, 2), (stride, stride), (0, 0), (1, 1), False)),
        Node("y", "flatten.using_ints", (Ref("p"), 1, -1)),
    )
    graph = Graph("x", (1, size, size), nodes, "y", {"c.w": torch.ones(1, 1, 1, 1)})
    x = torch.rand(20, 1, size, size, generator=torch.Generator().manual_seed(0))
    for image in range(20):
        x[image, 0, image % 2, image // 2 % 2] = float("nan")
    expected = torch.nn.functional.max_pool2d(x, 2, stride).flatten(1)
    engine = compile(graph, variant=variant)
    for made in (engine(x), torch.cat([engine(part) for part in x.split(1)])):
        assert torch.equal(made.nan_to_num(nan=2), expected.nan_to_num(nan=2))


def test_what_the_engine_does_not_know_runs_in_torch():
    noise = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 3, 3, 3, generator=noise)
    nodes = (
        conv("c", "x", 1, 1, 1, 1, bias=False),
        Node("s", "softmax.int", (Ref("c"), 1, None)),
        conv("d", "s", 1, 1, 1, 1, bias=False),
        Node("y", "flatten.using_ints", (Ref("d"), 1, -1)),
    )
    tensors = {"c.w": weight, "d.w": torch.randn(6, 6, 3, 3, generator=noise)}
    graph = Graph("x", (3, 9, 9), nodes, "y", tensors)
    engine = compile(graph)
    x = torch.rand(3, 3, 9, 9, generator=noise)
    mine, torchs = error(graph, engine(x), x)
    assert mine <= max(1e-5, 3 * torchs)
    if isinstance(engine, Engine):
        assert len(engine.segments) == 2


def tokens(*nodes: Node, axis: int) -> Graph:
    """An image of 5 rows and 6 columns as 5 tokens, the images along `axis`; `w` maps 6 to 7 channels."""
    noise = torch.Generator().manual_seed(0)
    turned = (0, 1, 2) if axis == 0 else (1, 0, 2)
    first = (
        Node("n", "sym_size.int", (Ref("x"), 0)),
        Node("s", "view", (Ref("x"), (Ref("n"), 5, 6))),
        Node("t", "permute", (Ref("s"), turned)),
        Node("l", "linear", (Ref("t"), Ref("w"), None)),
    )
    tensors = {"w": torch.randn(7, 6, generator=noise), "v": torch.randn(4, 35, generator=noise)}
    return Graph("x", (1, 5, 6), (*first, *nodes), "y", tensors).pruned()


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_tokens_are_flattened_token_by_token(images: int):
    nodes = (Node("f", "flatten.using_ints", (Ref("l"), 1, -1)), Node("y", "linear", (Ref("f"), Ref("v"), None)))
    graph = tokens(*nodes, axis=0)
    x = torch.rand(images, 1, 5, 6, generator=torch.Generator().manual_seed(images))
    mine, torchs = error(graph, compile(graph)(x), x)
    assert mine <= max(1e-6, 3 * torchs)


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_images_may_lie_along_another_axis(images: int):
    """Five tokens first, then the images, as in attention that puts the sequence first."""
    nodes = (
        Node("r", "relu", (Ref("l"),)),
        Node("b", "permute", (Ref("r"), (1, 0, 2))),
        Node("y", "reshape", (Ref("b"), (Ref("n"), 35))),
    )
    graph = tokens(*nodes, axis=1)
    x = torch.rand(images, 1, 5, 6, generator=torch.Generator().manual_seed(images))
    mine, torchs = error(graph, compile(graph)(x), x)
    assert mine <= max(1e-6, 3 * torchs)


def test_errors():
    graph = one(torch.ones(1, 1, 1, 1), (1, 2, 2), padding=0)
    for images in (torch.rand(1, 1, 2, 3), torch.rand(1, 1, 2, 2).double(), torch.rand(0, 1, 2, 2)):
        with pytest.raises(HarpError, match=r"expected float32 \[n, 1, 2, 2\]"):
            compile(graph)(images)
    with pytest.raises(HarpError, match="at least 1"):
        compile(graph, threads=0)
    with pytest.raises(HarpError, match="no build 'sse9'"):
        compile(graph, variant="sse9")


def test_without_a_build_torch_runs_it_and_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "built", dict)
    native.native.cache_clear()
    with pytest.warns(UserWarning, match="without a C"):
        engine = compile(one(torch.ones(1, 1, 1, 1), (1, 2, 2), padding=0))
    native.native.cache_clear()
    assert isinstance(engine, Fallback)
    assert "without a C++ compiler" in engine.why
    assert engine(torch.ones(1, 1, 2, 2)).tolist() == [[1, 1, 1, 1]]

"""Operators become layers where the engine means the same by them, and are left alone where it does not."""

from typing import Any

import numpy as np
import pytest
import torch

from harp.graph import ArrayGraph, Graph, Node, Ref, to_arrays
from harp.runtime import Engine, compile
from harp.runtime.layers import Act
from harp.runtime.lowering import Lowering
from harp.runtime.values import Spec
from tests.runtime.graphs import BUILT, NOISE, conv, error

MAP, VECTOR, TOKENS = (4, 6, 6), (4,), (5, 4)
C, X = Ref("c"), Ref("x")


def after(*nodes: Node, shape: tuple[int, ...] = MAP, **tensors: torch.Tensor) -> Graph:
    """Nodes behind a weighted layer "c", of four channels, that suits images of that shape; the last makes logits."""
    first = conv("c", "x", 1, 1, 1, 1, bias=False) if len(shape) == 3 else Node("c", "linear", (X, Ref("c.w"), None))
    weight = torch.randn(4, 4, *((3, 3) if len(shape) == 3 else ()), generator=NOISE)
    return Graph("x", shape, (first, *nodes), nodes[-1].name, {"c.w": weight, **tensors})


def agrees(graph: Graph, segments: int = 1, nodes: int = 0) -> None:
    """The engine gives what PyTorch gives, in so many segments and with so many nodes left to PyTorch."""
    x = torch.rand(3, *graph.shape, generator=NOISE) * 2 - 1
    for variant in BUILT:
        engine = compile(graph, variant=variant)
        assert isinstance(engine, Engine)
        assert (len(engine.segments), len(engine._parts) - len(engine.segments)) == (segments, nodes)
        mine, torchs = error(graph, engine(x), x)
        assert mine <= max(1e-6, 3 * torchs)


CONSTANT = torch.tensor([0.5, -2.0, 3.0, 1.5])
PER_CHANNEL = {MAP: CONSTANT.view(4, 1, 1), VECTOR: CONSTANT, TOKENS: CONSTANT}


@pytest.mark.parametrize("shape", PER_CHANNEL)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("op", "more"),
    [("add.Tensor", (1,)), ("add.Tensor", (3,)), ("sub.Tensor", (2,)), ("mul.Tensor", ()), ("div.Tensor", ())],
)
def test_arithmetic_with_a_constant(shape: tuple[int, ...], swapped: bool, op: str, more: tuple[int, ...]):
    """With one number per channel, or one for all; a constant divided by a value is left to PyTorch."""
    left = swapped and op == "div.Tensor"
    far = Node("far", "add.Scalar", (C, 100.0, 1))  # from 0, by which nobody divides
    pair = (Ref("k"), Ref("far")) if swapped else (Ref("far"), Ref("k"))
    agrees(after(far, Node("y", op, (*pair, *more)), shape=shape, k=PER_CHANNEL[shape]), nodes=int(left))
    agrees(after(far, Node("y", op, (*pair, *more)), shape=shape, k=torch.tensor([2.0])), nodes=int(left))
    if not swapped:
        agrees(after(Node("y", op.replace("Tensor", "Scalar"), (C, 0.75, *more)), shape=shape))


@pytest.mark.parametrize("shape", PER_CHANNEL)
def test_a_value_taken_from_a_number(shape: tuple[int, ...]):
    agrees(after(Node("y", "rsub.Scalar", (C, 0.75, 3)), shape=shape))


@pytest.mark.parametrize(
    ("shape", "constant"),
    [
        (MAP, torch.ones(6)),  # one for each column
        (MAP, torch.ones(6, 1)),
        (MAP, torch.ones(4, 6, 6)),
        (TOKENS, torch.ones(5, 1)),
        (VECTOR, torch.ones(1, 1, 4)),  # the value becomes [1, n, 4]
    ],
)
def test_a_constant_along_another_axis_is_left_to_pytorch(shape: tuple[int, ...], constant: torch.Tensor):
    agrees(after(Node("y", "mul.Tensor", (C, Ref("k"))), shape=shape, k=constant * 2), nodes=1)


def test_whole_numbers_are_no_weights():
    agrees(after(Node("y", "mul.Tensor", (C, Ref("k"))), shape=VECTOR, k=torch.tensor([1, 2, 3, 4])), nodes=1)


def test_values_of_two_layers():
    for op, more, nodes in (("add.Tensor", (1,), 0), ("add.Tensor", (2,), 1), ("sub.Tensor", (1,), 1)):
        agrees(after(Node("y", op, (C, X, *more))), nodes=nodes)
    agrees(after(Node("y", "mul.Tensor", (C, X))), nodes=1)
    agrees(after(Node("y", "add.Tensor", (C, C, 1))), nodes=1)  # twice the same


@pytest.mark.parametrize("swapped", [False, True])
def test_a_gate_scales_channels(swapped: bool):
    """Squeeze and excitation: a map times one number per image and channel."""
    pair = (C, Ref("g")) if not swapped else (Ref("g"), C)
    nodes = [
        Node("m", "mean.dim", (C, (2, 3), True, None)),
        conv("s", "m", 1, 0, 1, 1, bias=True),
        Node("g", "sigmoid", (Ref("s"),)),
        Node("y", "mul.Tensor", pair),
    ]
    small: dict[str, Any] = {"s.w": torch.randn(4, 4, 1, 1, generator=NOISE), "s.b": CONSTANT}
    agrees(after(*nodes, **small))


NORM = {
    "gamma": torch.tensor([1.0, -2.0, 0.5, 3.0]),
    "beta": torch.tensor([0.1, 0.2, -0.3, 0.4]),
    "mean": torch.tensor([0.5, -0.5, 0.25, 0.0]),
    "var": torch.tensor([1.0, 4.0, 0.25, 1e-3]),
}


@pytest.mark.parametrize("bare", [(), ("gamma",), ("beta",), ("gamma", "beta")])
def test_a_batch_norm(bare: tuple[str, ...]):
    """With its scale and shift, and without."""
    refs = (None if name in bare else Ref(name) for name in NORM)
    kept: dict[str, Any] = {name: tensor for name, tensor in NORM.items() if name not in bare}
    agrees(after(Node("y", "batch_norm", (C, *refs, False, 0.1, 1e-5, False)), **kept))


@pytest.mark.parametrize(
    ("op", "arguments", "nodes"),
    [
        ("max_pool2d", ((3, 3), (2, 2), (1, 1), (1, 1), True), 0),
        ("max_pool2d", ((2, 2), (), (0, 0), (1, 1), False), 0),  # no stride: that of the kernel
        ("max_pool2d", ((2, 3), (1, 2), (1, 0), (2, 1), False), 0),
        ("max_pool2d", ((3, 3), (2, 2), (0, 0), (2, 2), True), 0),
        ("avg_pool2d", ((3, 3), (2, 2), (1, 1), False, True, None), 0),
        ("avg_pool2d", ((3, 3), (2, 2), (1, 1), True, True, None), 0),  # a window hangs over
        ("avg_pool2d", ((3, 3), (2, 2), (1, 1), True, False, None), 0),
        ("avg_pool2d", ((2, 3), (2, 1), (1, 0), False, False, None), 0),
        ("avg_pool2d", ((2, 2), (2, 2), (0, 0), False, True, 3), 1),  # another divisor
        ("adaptive_avg_pool2d", ((1, 1),), 0),
        ("adaptive_avg_pool2d", ((3, 2),), 0),
        ("adaptive_avg_pool2d", ((4, 4),), 1),  # windows of two sizes
        ("mean.dim", ((2, 3), True, None), 0),
        ("mean.dim", ((-1, -2), False, None), 0),
        ("mean.dim", ((2,), True, None), 1),
        ("mean.dim", ((1, 2), False, None), 1),
    ],
)
def test_pooling(op: str, arguments: tuple[object, ...], nodes: int):
    agrees(after(Node("y", op, (C, *arguments))), nodes=nodes)


@pytest.mark.parametrize("width", [31, 47, 72])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_on_rows_of_several_vectors(stride: int, width: int):
    """With what vectors leave over, and windows that hang over on both sides."""
    low = Node("l", "add.Scalar", (C, -9.0, 1))
    for op, more in (("max_pool2d", ((1, 2), False)), ("avg_pool2d", (False, False, None))):
        arguments = (Ref("l"), (3, 3), (stride, stride), (1, 1), *more)
        agrees(after(low, Node("y", op, arguments), shape=(4, 6, width)))


@pytest.mark.parametrize("shape", [(4, 7, 9), (4, 8, 7), (4, 5, 8)])
@pytest.mark.parametrize(("dilation", "ceil"), [((1, 1), True), ((1, 1), False), ((2, 2), False), ((1, 2), True)])
def test_a_maximum_of_2_x_2_where_the_map_is_odd(shape: tuple[int, ...], dilation: tuple[int, int], ceil: bool):
    """Of numbers below zero, so that what lies beside the map would show."""
    low = Node("l", "add.Scalar", (C, -9.0, 1))
    agrees(after(low, Node("y", "max_pool2d", (Ref("l"), (2, 2), (2, 2), (0, 0), dilation, ceil)), shape=shape))


@pytest.mark.parametrize(("dim", "nodes"), [(1, 0), (-3, 0), (2, 1)])
def test_values_side_by_side(dim: int, nodes: int):
    agrees(after(Node("y", "cat", ((C, X, C), dim))), nodes=nodes)


def test_a_convolution_with_two_strides_is_left_to_pytorch():
    strides = (C, Ref("d.w"), None, (1, 2), (1, 1), (1, 1), 1)
    weight: dict[str, Any] = {"d.w": torch.randn(2, 4, 3, 3, generator=NOISE)}
    agrees(after(Node("y", "conv2d", strides), **weight), nodes=1)


def test_a_convolution_with_computed_weights_is_left_to_pytorch():
    nodes = (Node("w", "mul.Tensor", (Ref("d.w"), 2.0)), Node("y", "conv2d", (C, Ref("w"), None, *[(1, 1)] * 3, 1)))
    weight: dict[str, Any] = {"d.w": torch.randn(2, 4, 3, 3, generator=NOISE)}
    agrees(after(*nodes, **weight), nodes=2)


def test_how_values_are_held():
    graph = after(Node("m", "mean.dim", (C, (2, 3), False, None)), Node("y", "relu", (Ref("m"),)))
    lowering = Lowering(to_arrays(graph))
    assert lowering.spec("x") == Spec("map", (4, 6, 6))
    assert lowering.spec("m") == Spec("vector", (4, 1, 1))
    assert lowering.spec("c.w") is None  # a weight, not a value
    assert lowering.spec("m", "map") is None
    assert Lowering(to_arrays(after(Node("y", "relu", (C,)), shape=TOKENS))).spec("c") == Spec("tokens", (4, 1, 5))


def test_what_is_only_described_anew():
    graph = after(
        Node("a", "clone", (C, None)),
        Node("b", "view", (Ref("a"), (-1, 144))),
        Node("t", "view", (C, (-1, 16, 9))),
        Node("p", "adaptive_avg_pool2d", (C, (6, 6))),
        Node("y", "flatten.using_ints", (Ref("b"), 1, -1)),
    )
    lowering = Lowering(to_arrays(graph))
    found = {node.name: lowering.flattened(node) for node in graph.nodes}
    assert found == {"c": None, "a": "c", "b": "a", "t": None, "p": "c", "y": "b"}


def test_bounds_of_a_clamp():
    node = Node("y", "clamp", (C, None, 2.0))
    lowered = Lowering(to_arrays(after(node))).lower(node, {"c": "map"})
    assert lowered is not None
    assert lowered[0].act == Act("clamp", -float("inf"), 2.0)


def test_what_only_a_file_would_ask_for_is_left_to_pytorch():
    """A bound that is the number of images; windows and padding of thousands around 36 numbers."""
    count = Node("n", "sym_size.int", (X, 0))
    agrees(
        after(count, Node("r", "clamp", (C, Ref("n"), None)), Node("y", "flatten.using_ints", (Ref("r"), 1, -1))),
        nodes=3,
    )
    flat = Node("y", "flatten.using_ints", (Ref("p"), 1, -1))
    for size, nodes in ((100, 0), (100000, 2)):
        wide = (size, 7), (size, 7), (size // 2, 3)
        agrees(after(Node("p", "avg_pool2d", (C, *wide, False, False, None)), flat), nodes=nodes)
    for far, nodes in ((60, 0), (2**16, 2)):  # rows of zeros, for which planes would have to have room
        pair = (far, far)
        padded = Node("p", "conv2d", (C, Ref("c.w"), None, pair, pair, (1, 1), 1))
        agrees(after(padded, flat), nodes=nodes)


@pytest.mark.parametrize("how", [{"stride": 0}, {"dilation": 0}, {"dilation": -1}, {"padding": -1}, {"bias": 3}])
def test_what_is_no_convolution_is_pytorchs_to_refuse(how):
    """Windows without steps, and a bias of another length than there are filters."""
    plain: dict[str, Any] = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": 4}
    tensors = {"c.w": torch.randn(4, 4, 3, 3, generator=NOISE).numpy(), "c.b": np.zeros(4, np.float32)}
    lowering = Lowering(ArrayGraph("x", MAP, (conv("c", "x", **{**plain, "bias": True}),), "c", tensors))
    for found, expected in ((plain, True), ({**plain, **how}, False)):
        tensors["c.b"] = np.zeros(found["bias"], np.float32)
        node = conv("c", "x", **{**found, "bias": True})
        assert (lowering.lower(node, {"x": "map"}) is not None) is expected

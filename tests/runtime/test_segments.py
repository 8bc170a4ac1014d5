"""Where a graph is cut, and which layers become one."""

import pytest
import torch

from harp.graph import Graph, Node, Ref, to_arrays
from harp.runtime import Engine, compile
from harp.runtime.layers import Layer
from harp.runtime.lowering import Lowering
from harp.runtime.segments import Segment, cut, fused
from tests.runtime.graphs import BUILT, NOISE, conv, error

X = Ref("x")


def graph_of(*nodes: Node, shape: tuple[int, ...] = (4, 6, 6), output: str = "") -> Graph:
    """These nodes, with weights [4, 4, 3, 3] (or [4, 4]) for every name that ends in ".w"."""
    wanted = {name for node in nodes for name in node.refs() if name.endswith(".w")}
    size = (4, 4, 3, 3) if len(shape) == 3 else (4, 4)
    tensors = {name: torch.randn(size, generator=NOISE) for name in sorted(wanted)}
    return Graph("x", shape, nodes, output or nodes[-1].name, tensors)


def plain(name: str, x: str) -> Node:
    return conv(name, x, 1, 1, 1, 1, bias=False)


def relu(name: str, x: str) -> Node:
    return Node(name, "relu", (Ref(x),))


def add(name: str, a: str, b: str) -> Node:
    return Node(name, "add.Tensor", (Ref(a), Ref(b), 1))


def parts(graph: Graph) -> list[str | list[str]]:
    """Names of the nodes left to PyTorch, and for each segment those of its layers."""
    items = cut(to_arrays(graph), Lowering(to_arrays(graph)))
    return [[layer.name for layer in item.layers] if isinstance(item, Segment) else item.name for item in items]


def layers(graph: Graph) -> list[Layer]:
    (segment,) = cut(to_arrays(graph), Lowering(to_arrays(graph)))
    assert isinstance(segment, Segment)
    return fused(segment)


def agrees(graph: Graph) -> None:
    for variant in BUILT:
        for images in (1, 19):
            x = torch.rand(images, *graph.shape, generator=NOISE) * 2 - 1
            engine = compile(graph, variant=variant)
            assert isinstance(engine, Engine)
            mine, torchs = error(graph, engine(x), x)
            assert mine <= max(1e-6, 3 * torchs)


def test_an_unknown_operator_between_two_convolutions_is_a_border():
    graph = graph_of(plain("a", "x"), Node("s", "sin", (Ref("a"),)), plain("b", "s"), relu("y", "b"))
    assert parts(graph) == [["a"], "s", ["b", "y"]]
    agrees(graph)


def test_a_value_crosses_the_border_and_returns():
    """What a segment made is read by PyTorch, by a later segment, and as logits."""
    graph = graph_of(plain("a", "x"), Node("s", "sin", (Ref("a"),)), plain("b", "s"), add("y", "b", "a"))
    assert parts(graph) == [["a"], "s", ["b", "y"]]
    agrees(graph)


def test_without_weights_nothing_is_worth_handing_over():
    graph = graph_of(relu("a", "x"), Node("s", "sin", (Ref("a"),)), plain("b", "s"))
    assert parts(graph) == ["a", "s", ["b"]]
    agrees(graph)


def test_what_nobody_needs_is_left_out():
    graph = graph_of(plain("a", "x"), plain("b", "x"), relu("y", "a"), Node("s", "sin", (Ref("b"),)), output="y")
    assert parts(graph) == [["a", "y"]]
    agrees(graph)


@pytest.mark.parametrize("keep", [1.0, 0.1])
def test_a_large_dense_matrix_is_pytorchs_and_a_sparse_one_the_engines(keep: float):
    weight = torch.randn(300, 300, generator=NOISE) * (torch.rand(300, 300, generator=NOISE) < keep)
    nodes = (Node("y", "linear", (X, Ref("m"), None)),)
    graph = Graph("x", (300,), nodes, "y", {"m": weight})
    assert parts(graph) == (["y"] if keep == 1 else [["y"]])
    agrees(graph)


def test_a_residual_block_becomes_two_layers():
    graph = graph_of(plain("a", "x"), relu("b", "a"), plain("c", "b"), add("d", "c", "x"), relu("y", "d"))
    first, second = layers(graph)
    assert (first.name, first.inputs, first.act.name) == ("b", ("x",), "clamp")
    assert (second.name, second.inputs, second.act.name) == ("y", ("b", "x"), "clamp")
    agrees(graph)


def test_of_two_convolutions_that_are_added_the_later_one_adds():
    """Its other operand has to be there when it runs."""
    for pair in (("a", "b"), ("b", "a")):
        graph = graph_of(plain("a", "x"), plain("b", "x"), add("y", *pair))
        assert [(layer.name, layer.inputs) for layer in layers(graph)] == [("a", ("x",)), ("y", ("x", "a"))]
        agrees(graph)


def test_a_value_that_others_read_stays():
    graph = graph_of(plain("a", "x"), relu("b", "a"), plain("c", "b"), add("y", "c", "a"))
    assert [layer.name for layer in layers(graph)] == ["a", "b", "y"]
    agrees(graph)


def test_a_value_that_leaves_the_segment_stays():
    graph = graph_of(plain("a", "x"), relu("b", "a"), Node("s", "sin", (Ref("a"),)), add("y", "s", "b"))
    agrees(graph)
    (segment, *_) = cut(to_arrays(graph), Lowering(to_arrays(graph)))
    assert isinstance(segment, Segment)
    assert [layer.name for layer in fused(segment)] == ["a", "b"]


def test_after_an_activation_nothing_more_is_added():
    graph = graph_of(
        plain("a", "x"), relu("b", "a"), add("c", "b", "x"), relu("d", "c"), Node("y", "tanh", (Ref("d"),))
    )
    assert [(layer.name, layer.kind) for layer in layers(graph)] == [("b", "conv"), ("d", "add"), ("y", "activate")]
    agrees(graph)


def test_one_convolution_adds_one_residual():
    graph = graph_of(plain("a", "x"), plain("b", "x"), plain("c", "x"), add("d", "c", "a"), add("y", "d", "b"))
    found = layers(graph)
    assert [layer.name for layer in found] == ["a", "b", "d", "y"]
    assert found[-1].kind == "add"
    agrees(graph)


def test_squeeze_and_excitation_is_one_segment():
    graph = graph_of(
        plain("a", "x"),
        Node("m", "mean.dim", (Ref("a"), (2, 3), True, None)),
        conv("s", "m", 1, 1, 1, 1, bias=False),
        Node("g", "hardsigmoid", (Ref("s"),)),
        Node("e", "mul.Tensor", (Ref("a"), Ref("g"))),
        add("y", "e", "x"),
    )
    assert parts(graph) == [["a", "m", "s", "g", "e", "y"]]
    agrees(graph)


def test_a_norm_before_its_convolution():
    """As in networks with pre-activation: padding zeros come in after the norm and the relu."""
    norm = Node("n", "batch_norm", (X, *map(Ref, ("k1.v", "k2.v", "k3.v", "k4.v")), False, 0.1, 1e-5, False))
    graph = graph_of(norm, relu("r", "n"), plain("a", "r"), add("y", "a", "x"))
    numbers = {f"k{i}.v": torch.rand(4, generator=NOISE) + 0.5 for i in range(1, 5)}
    graph = Graph("x", graph.shape, graph.nodes, "y", {**graph.tensors, **numbers})
    assert parts(graph) == [["n", "r", "a", "y"]]
    agrees(graph)


def test_dense_blocks_side_by_side():
    """As in DenseNet: each layer reads all that was made before."""
    both = Node("b", "cat", ((X, Ref("a")), 1))
    weight = {"c.w": torch.randn(4, 8, 3, 3, generator=NOISE)}
    graph = graph_of(plain("a", "x"), both, plain("c", "b"), Node("y", "cat", ((Ref("b"), Ref("c")), 1)))
    graph = Graph("x", graph.shape, graph.nodes, "y", {**graph.tensors, **weight})
    assert parts(graph) == [["a", "b", "c", "y"]]
    agrees(graph)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_then_pointwise(stride: int):
    tensors = {"d.w": torch.randn(4, 1, 3, 3, generator=NOISE), "p.w": torch.randn(7, 4, 1, 1, generator=NOISE)}
    nodes = (conv("d", "x", stride, 1, 1, 4, bias=False), relu("r", "d"), conv("p", "r", 1, 0, 1, 1, bias=False))
    graph = Graph("x", (4, 9, 9), nodes, "p", tensors)
    assert parts(graph) == [["d", "r", "p"]]
    agrees(graph)


def test_a_map_is_flattened_for_a_linear_layer_and_nothing_moves():
    nodes = (
        plain("a", "x"),
        Node("n", "sym_size.int", (X, 0)),
        Node("f", "view", (Ref("a"), (Ref("n"), -1))),
        Node("y", "linear", (Ref("f"), Ref("m"), None)),
    )
    graph = graph_of(*nodes)
    graph = Graph("x", graph.shape, nodes, "y", {**graph.tensors, "m": torch.randn(5, 144, generator=NOISE)})
    assert parts(graph) == [["a", "y"]]
    agrees(graph)


def test_the_number_of_images_is_asked_of_the_input():
    """So that a segment need not end because its own value was asked."""
    nodes = (
        plain("a", "x"),
        Node("n", "sym_size.int", (Ref("a"), 0)),
        relu("r", "a"),
        Node("t", "view", (Ref("r"), (Ref("n"), 2, 72))),
        Node("y", "sin", (Ref("t"),)),
    )
    graph = graph_of(*nodes)
    assert parts(graph) == ["n", ["a", "r"], "t", "y"]
    agrees(graph)


def test_logits_that_are_read_again_as_an_alias():
    """The output is a value's other name, and the value itself goes on."""
    nodes = (plain("a", "x"), Node("f", "flatten.using_ints", (Ref("a"), 1, -1)), relu("r", "a"))
    graph = graph_of(*nodes, output="f")
    assert parts(graph) == [["a"]]
    agrees(graph)


def test_a_pool_with_an_activation():
    nodes = (plain("a", "x"), Node("p", "max_pool2d", (Ref("a"), (2, 2), (2, 2), (0, 0), (1, 1), False)))
    for shape in ((4, 8, 8), (4, 5, 7)):
        graph = graph_of(*nodes, Node("y", "tanh", (Ref("p"),)), shape=shape)
        assert [(layer.name, layer.act.name) for layer in layers(graph)] == [("a", "none"), ("y", "tanh")]
        agrees(graph)


def test_a_residual_of_single_numbers_that_another_layer_pads():
    """Numbers that follow one another, and others with zeros around them, are added."""
    graph = graph_of(conv("c", "x", 1, 1, 1, 1, bias=False), add("s", "c", "x"), conv("y", "x", 1, 2, 1, 1, bias=False))
    flat = [Node(f"f{name}", "flatten.using_ints", (Ref(name), 1, -1)) for name in ("s", "y")]
    both = Node("b", "cat", ((Ref("fs"), Ref("fy")), 1))
    agrees(Graph("x", (4, 1, 1), (*graph.nodes, *flat, both), "b", graph.tensors))

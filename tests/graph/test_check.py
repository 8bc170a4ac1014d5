from dataclasses import replace

import pytest
import torch

from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, Sparse, check

W = torch.eye(3)
GOOD = Graph(
    "x",
    (3,),
    (Node("h", "linear", (Ref("x"), Ref("w"), None)), Node("y", "relu", (Ref("h"),))),
    "y",
    {"w": W},
)


def graph(*nodes, **changes):
    return replace(GOOD, nodes=nodes, **{"output": nodes[-1].name, **changes})


def test_a_sound_graph_passes():
    check(GOOD)
    check(replace(GOOD, tensors={"w": Sparse.of(W)}, batch=4))


def test_a_weight_may_be_larger_than_any_value():
    check(replace(GOOD, tensors={"w": Sparse((2**23, 3), torch.tensor([4]), W[0, :1])}))


LINEAR = GOOD.nodes[0]
FULL = ("float32", "strided", None, None)
STRANGE = {
    "an operator no graph may use": (graph(Node("y", "from_file", ("secrets",))), "'from_file'"),
    "one that only looks like an attribute": (graph(Node("y", "__class__", (Ref("x"),))), "operator '__class__'"),
    "a name from later": (replace(GOOD, nodes=GOOD.nodes[::-1]), "'y' reads 'h', which nothing before it makes"),
    "a name of its own": (graph(Node("y", "relu", (Ref("y"),))), "reads 'y'"),
    "a name twice": (graph(LINEAR, Node("h", "relu", (Ref("h"),))), "two values of the graph are called 'h'"),
    "a tensor's name": (graph(LINEAR, Node("w", "relu", (Ref("h"),))), "called 'w'"),
    "the input's name": (replace(GOOD, tensors={"w": W, "x": W}), "both called 'x'"),
    "no output": (replace(GOOD, output="z"), "output 'z' is no tensor"),
    "an argument too few": (graph(Node("y", "linear", (Ref("x"), Ref("w")))), "takes 3 arguments, not 2"),
    "a number for a tensor": (graph(Node("y", "relu", (3,))), r"takes no 3 for self \(Tensor\)"),
    "a tensor for a number": (graph(Node("y", "softmax.int", (Ref("x"), Ref("w"), None))), "for dim"),
    "an integer that is none": (graph(Node("y", "softmax.int", (Ref("x"), True, None))), "takes no True for dim"),
    "an integer beyond int64": (graph(Node("y", "softmax.int", (Ref("x"), 2**70, None))), "for dim"),
    "a dtype that is none": (graph(Node("y", "softmax.int", (Ref("x"), 1, "float12"))), "takes no float12"),
    "a device": (graph(Node("y", "full", ((1, 3), 0.0, "float32", "strided", "cuda", None))), "for device"),
    "a list for a tuple": (graph(Node("y", "view", (Ref("x"), [1, 3]))), "for size"),
    "training mode": (
        graph(Node("y", "batch_norm", (Ref("x"), None, None, Ref("w"), Ref("w"), True, 0.1, 1e-5, False))),
        "takes no True for training",
    ),
    "several tensors for one": (
        graph(Node("p", "unbind.int", (Ref("x"), 0)), Node("y", "relu", (Ref("p"),))),
        "for self",
    ),
    "an item that is not there": (
        graph(Node("p", "unbind.int", (Ref("x"), 0)), Node("y", "getitem", (Ref("p"), 7))),
        "'y' cannot be computed",
    ),
    "an absurd constant": (graph(Node("y", "full", ((1, 2**40), 0.0, *FULL))), "at 'y' values of .* bytes are needed"),
    "an absurd product of sizes": (graph(Node("y", "full", ((2**40, 2**40), 0.0, *FULL))), "'y'"),
    "an absurd expansion": (
        graph(Node("y", "repeat", (Ref("x"), (1, 2**30)))),
        "values of 12,884,901,9.. bytes are needed; expected 134,222,336",
    ),
    "an absurd range": (graph(Node("y", "arange", (1e30, *FULL))), "'y'"),
    "an absurd margin": (graph(Node("y", "constant_pad_nd", (Ref("x"), (0, 2**50), 0))), "bytes are needed"),
    "an absurd picture": (replace(GOOD, shape=(2**23,)), "at most 4,194,304 numbers an image"),
    "an absurd batch": (replace(GOOD, shape=(2**10, 2**10), batch=32), "16,777,216 at once"),
    "absurd work": (
        replace(
            graph(Node("m", "mm", (Ref("w"), Ref("w"))), Node("y", "mm", (Ref("x"), Ref("m")))),
            shape=(2**12,),
            tensors={"w": Sparse((2**12, 2**12), torch.tensor([4]), W[0, :1])},
        ),
        "up to 'm' the graph takes .* multiply-adds",
    ),
    "many values at a time": (
        graph(
            *(Node(f"r{i}", "repeat", (Ref("x"), (1, 2**20))) for i in range(12)),
            Node("s", "cat", (tuple(Ref(f"r{i}") for i in range(12)), 0)),
            Node("y", "narrow", (Ref("s"), 0, 0, 1)),
        ),
        "at 'r10' values of .* bytes are needed",
    ),
    "a float beyond float32": (graph(Node("y", "mul.Scalar", (Ref("x"), 1e39))), "takes no 1e\\+39"),
    "a number that is none": (graph(Node("y", "mul.Scalar", (Ref("x"), float("nan")))), "takes no nan"),
    "many sections": (
        graph(Node("p", "tensor_split.sections", (Ref("x"), 2**40, 1)), Node("y", "getitem", (Ref("p"), 0))),
        "takes no 1099511627776 sections",
    ),
    "an absurd number of parts": (
        graph(
            Node("r", "repeat", (Ref("x"), (1, 2**20))),
            Node("p", "unbind.int", (Ref("r"), 1)),
            Node("y", "getitem", (Ref("p"), 0)),
        ),
        "'r' of shape .* would be split",
    ),
    "matrices that do not fit": (graph(LINEAR, tensors={"w": W[:, :2]}), "'h' cannot be computed"),
    "a division by zero": (
        graph(Node("n", "int_floordiv", (3, 0)), Node("y", "view", (Ref("x"), (1, Ref("n"))))),
        "'n' cannot be computed",
    ),
    "a map for logits": (graph(Node("y", "unsqueeze", (Ref("x"), 0))), r"float32 \[1, 1, 3\]; expected logits"),
    "integers for logits": (graph(Node("y", "gt.Scalar", (Ref("x"), 0))), "gives bool"),
    "an image without pixels": (replace(GOOD, shape=(0,)), "expected sizes above 0"),
    "an image of a word": (replace(GOOD, shape=("3",)), "expected sizes above 0"),  # type: ignore[arg-type]
    "positions outside": (replace(GOOD, tensors={"w": Sparse((3, 3), torch.tensor([1, 9]), W[0, :2])}), "ascend"),
    "positions that descend": (replace(GOOD, tensors={"w": Sparse((3, 3), torch.tensor([4, 1]), W[0, :2])}), "ascend"),
    "more values than positions": (replace(GOOD, tensors={"w": Sparse((3, 3), torch.tensor([4]), W[0])}), "is not one"),
    "an absurd tensor": (
        replace(GOOD, tensors={"w": W, "v": Sparse((2**20, 2**20), torch.tensor([4]), W[0, :1])}),
        "not believable",
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_graph_is_refused(name):
    strange, words = STRANGE[name]
    with pytest.raises(HarpError, match=words):
        check(strange)


def test_too_many_nodes_are_refused():
    nodes = tuple(Node(f"n{i}", "relu", (Ref("x"),)) for i in range(8193))
    with pytest.raises(HarpError, match="8193 nodes"):
        check(graph(*nodes))


def resized(op: str, *arguments: object) -> Graph:
    flat = Node("y", "flatten.using_ints", (Ref("u"), 1, -1))
    return Graph("x", (1, 10, 10), (Node("u", op, (Ref("x"), *arguments)), flat), "y", {})


RESIZINGS = ["upsample_nearest2d", "upsample_bilinear2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]


@pytest.mark.parametrize("op", RESIZINGS)
@pytest.mark.parametrize("factor", [1e-10, 0.0, -0.35, 1e30, 0.6, float("inf")])
def test_a_factor_that_the_sizes_have_not_is_refused(op, factor):
    """By 1e-10 PyTorch's own resizing leaves its memory."""
    corners = () if "nearest" in op else (False,)
    with pytest.raises(HarpError, match=r"takes no factor .* from 10 to 3 pixels"):
        check(resized(op, (3, 3), *corners, 0.35, factor))
    check(resized(op, (3, 3), *corners, 0.35, None))


def test_factors_that_make_the_sizes():
    for factor in (0.35, 0.999, 1.0, 2.5):
        check(resized("upsample_nearest2d.vec", None, (factor, factor)))
    with pytest.raises(HarpError):
        check(resized("_upsample_bilinear2d_aa.vec", (3, 3), False, (1e-10, 1e-10)))


def test_a_pool_larger_than_any_memory_is_refused():
    nodes = (
        Node("p", "adaptive_avg_pool2d", (Ref("x"), (2**62, 1))),
        Node("y", "flatten.using_ints", (Ref("p"), 1, -1)),
    )
    with pytest.raises(HarpError, match="'p'"):
        check(Graph("x", (1, 4, 4), nodes, "y", {}))

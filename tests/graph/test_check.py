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
    "an absurd constant": (graph(Node("y", "full", ((1, 2**40), 0.0, *FULL))), "would have 1099511627776 elements"),
    "an absurd product of sizes": (graph(Node("y", "full", ((2**40, 2**40), 0.0, *FULL))), "'y'"),
    "an absurd expansion": (
        graph(Node("y", "repeat", (Ref("x"), (1, 2**30)))),
        "would have 3221225472 elements; expected at most 16777216",
    ),
    "an absurd range": (graph(Node("y", "arange", (1e30, *FULL))), "'y'"),
    "an absurd margin": (graph(Node("y", "constant_pad_nd", (Ref("x"), (0, 2**50), 0))), "would have"),
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
    "integers for logits": (graph(Node("y", "gt.Scalar", (Ref("x"), 0))), "torch.bool"),
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
    nodes = tuple(Node(f"n{i}", "relu", (Ref("x"),)) for i in range(100_001))
    with pytest.raises(HarpError, match="100001 nodes"):
        check(graph(*nodes))

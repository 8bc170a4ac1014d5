import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.graph import Graph, Interpreter, Node, Ref, Sparse, capture, run

X = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
W = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, -1.0]])


def linear(weight=W, batch=None):
    return Graph("x", (3,), (Node("y", "linear", (Ref("x"), Ref("w"), None)),), "y", {"w": weight}, batch)


def test_sparse_and_dense_weights_give_the_same():
    expected = X @ W.T
    assert torch.allclose(run(linear(), X), expected)
    assert torch.equal(run(linear(Sparse.of(W)), X), run(linear(), X))


def test_one_image_at_a_time_gives_the_batch():
    assert torch.allclose(run(linear(batch=1), X), X @ W.T)


def test_it_can_be_differentiated():
    x = X.clone().requires_grad_()
    Interpreter(linear())(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, W[0].expand(5, 3))


def test_a_view_does_not_ask_for_a_layout():
    nodes = (Node("t", "transpose.int", (Ref("x"), 1, 2)), Node("y", "view", (Ref("t"), (-1, 6))))
    graph = Graph("x", (2, 3), nodes, "y", {})
    x = torch.arange(12.0).view(2, 2, 3)
    assert torch.equal(run(graph, x), x.transpose(1, 2).reshape(2, 6))


def test_several_tensors_and_sizes():
    nodes = (
        Node("n", "sym_size.int", (Ref("x"), 0)),
        Node("m", "int_mul", (Ref("n"), 3)),
        Node("parts", "split_with_sizes", (Ref("x"), (1, 2), 1)),
        Node("b", "getitem", (Ref("parts"), 1)),
        Node("y", "view", (Ref("b"), (Ref("n"), 2))),
    )
    graph = Graph("x", (3,), nodes, "y", {})
    assert torch.equal(run(graph, X), X[:, 1:])


def test_dtypes_in_words_become_dtypes():
    nodes = (
        Node("c", "full", ((3,), 2.0, "float64", "strided", None, None)),
        Node("d", "to.dtype", (Ref("c"), "float32", False, False, None)),
        Node("y", "mul.Tensor", (Ref("x"), Ref("d"))),
    )
    assert torch.equal(run(Graph("x", (3,), nodes, "y", {}), X), X * 2)


def test_values_that_nobody_reads_any_more_are_dropped():
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(4)])
    steps = Interpreter(capture(model, X))._steps
    assert [step.last for step in steps] == [("input",), ("linear",), ("linear_1",), ("linear_2",)]


@pytest.mark.parametrize("x", [X[:, :2], X[:0], X[0]])
def test_images_of_another_shape_are_refused(x):
    with pytest.raises(HarpError, match=r"expected \[n, 3\]"):
        run(linear(), x)


def test_a_rest_of_a_batch_is_refused():
    with pytest.raises(HarpError, match="multiples of 2"):
        run(linear(batch=2), X)


def test_what_cannot_be_computed_names_the_node():
    with pytest.raises(HarpError, match="node 'y' cannot be computed"):
        run(linear(W[:, :2]), X)

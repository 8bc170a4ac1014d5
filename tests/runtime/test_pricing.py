"""What the planner says a network costs."""

from dataclasses import replace

import pytest
import torch

from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, to_arrays
from harp.runtime import cycles
from harp.runtime.pricing import CALL
from tests.runtime.graphs import BUILT, conv

pytestmark = pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")


def network(*counts: int) -> Graph:
    """Two convolutions of 16 channels, of which the first so many weights are ones, and a mean."""
    nodes = (conv("a", "x", 1, 1, 1, 1, bias=False), conv("b", "a", 2, 1, 1, 1, bias=False))
    mean = Node("y", "mean.dim", (Ref("b"), (2, 3), False, None))
    tensors = {}
    for name, count in zip(("a.w", "b.w"), counts, strict=True):
        tensors[name] = (torch.arange(16 * 16 * 9) < count).float().view(16, 16, 3, 3)
    return Graph("x", (16, 32, 32), (*nodes, mean), "y", tensors)


@pytest.mark.parametrize("variant", BUILT)
def test_a_weight_costs_what_it_meets(variant: str):
    few, many = (cycles(to_arrays(network(count, count)), variant) for count in (100, 1000))
    assert few.keys() == {"", "a.w", "b.w"}
    assert few[""] == many[""] == CALL
    assert few["a.w"] < many["a.w"]
    assert 3 * few["b.w"] < few["a.w"]  # a quarter of the pixels


def test_what_pytorch_runs_has_no_price():
    graph = network(10, 10)
    nodes = (*graph.nodes, Node("odds", "softmax.int", (Ref("y"), 1, None)))
    with pytest.raises(HarpError, match="'odds'"):
        cycles(to_arrays(replace(graph, nodes=nodes, output="odds")))

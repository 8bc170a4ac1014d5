"""Graphs as arrays and back: every bit, every dtype, one memory."""

import numpy as np
import pytest
import torch

from harp.graph import ArrayGraph, Graph, Node, Ref, Sparse, SparseArray, dtype_name, to_arrays, to_tensors
from harp.graph.tensors import to_array, to_tensor

KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("kind", [*KINDS, torch.float8_e4m3fn, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (4,), (2, 3)])
def test_there_and_back(kind, shape):
    bits = torch.randint(0, 2, (*shape, kind.itemsize), dtype=torch.uint8)
    tensor = bits.view(kind).squeeze(-1) if bits.numel() else torch.zeros(shape, dtype=kind)
    array = to_array(tensor)
    assert isinstance(array, np.ndarray)
    assert dtype_name(array) == str(kind).removeprefix("torch.")
    again = to_tensor(array)
    assert isinstance(again, torch.Tensor)
    assert (again.dtype, again.shape) == (kind, tensor.shape)
    assert again.reshape(-1).view(torch.uint8).tolist() == tensor.reshape(-1).view(torch.uint8).tolist()


def test_one_memory():
    tensor = torch.zeros(3)
    array = to_array(tensor)
    assert isinstance(array, np.ndarray)
    array[1] = 5
    assert tensor.tolist() == [0, 5, 0]


def test_views_become_what_they_show():
    array = to_array(torch.arange(6.0).view(2, 3).t())
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_graph_keeps_its_nodes_and_what_is_sparse():
    weight = Sparse.of(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    graph = Graph("x", (2,), (Node("y", "linear", (Ref("x"), Ref("w"), None)),), "y", {"w": weight}, 4)
    arrays = to_arrays(graph)
    assert isinstance(arrays, ArrayGraph)
    assert to_arrays(arrays) is arrays
    assert isinstance(arrays.tensors["w"], SparseArray)
    assert arrays.tensor("w").tolist() == [[0, 2], [0, 0]]
    again = to_tensors(arrays)
    assert (again.nodes, again.shape, again.batch, again.output) == (graph.nodes, (2,), 4, "y")
    assert torch.equal(again.tensor("w"), graph.tensor("w"))

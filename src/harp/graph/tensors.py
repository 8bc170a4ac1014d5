"""Graphs with their numbers as arrays, and back; both share the memory."""

from typing import Any

import torch
from torch import Tensor

from harp.graph.ir import Array, ArrayGraph, Graph, Sparse, SparseArray, dtype_name, stands_for

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def to_arrays(graph: Graph | ArrayGraph) -> ArrayGraph:
    """The graph with arrays for tensors; numbers of a dtype that numpy lacks as bits (`ir.stands_for`)."""
    if isinstance(graph, ArrayGraph):
        return graph
    tensors = {name: to_array(tensor) for name, tensor in graph.tensors.items()}
    return ArrayGraph(graph.input, graph.shape, graph.nodes, graph.output, tensors, graph.batch)


def to_tensors(graph: ArrayGraph) -> Graph:
    """The graph with tensors for arrays."""
    tensors = {name: to_tensor(array) for name, array in graph.tensors.items()}
    return Graph(graph.input, graph.shape, graph.nodes, graph.output, tensors, graph.batch)


def to_array(tensor: Tensor | Sparse) -> Array | SparseArray:
    """The tensor's numbers, as they are stored."""
    if isinstance(tensor, Sparse):
        return SparseArray(tensor.shape, _array(tensor.index), _array(tensor.values))
    return _array(tensor)


def to_tensor(array: Array | SparseArray) -> Tensor | Sparse:
    """The array's numbers, as they are stored."""
    if isinstance(array, SparseArray):
        return Sparse(array.shape, _tensor(array.index), _tensor(array.values))
    return _tensor(array)


def _array(tensor: Tensor) -> Array:
    plain = tensor.detach().cpu().resolve_neg().resolve_conj().contiguous()
    try:
        found: Array = plain.numpy()
    except TypeError:  # numpy has no such numbers
        bits: Any = plain.view(_BITS[plain.itemsize]).numpy()
        found = bits.view(stands_for(dtype_name(plain), plain.itemsize))
    return found


def _tensor(array: Array) -> Tensor:
    kind: torch.dtype = getattr(torch, dtype_name(array))
    if not array.size:
        return torch.empty(array.shape, dtype=kind)  # the strides that numpy has for nothing make a tensor of no use
    if array.dtype.names is None:
        return torch.from_numpy(array)
    bits = torch.from_numpy(array.view(f"i{array.itemsize}" if array.itemsize > 1 else "u1"))
    return bits.view(kind)

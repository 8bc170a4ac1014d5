"""A network as data: what is computed from what, with which numbers; no Python class is needed to run it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class Ref:
    """The value of that name: the graph's input, a tensor, or what an earlier node made."""

    name: str


# An argument: None, bool, int, float, str, Ref, or a tuple of such.
Value = Any


@dataclass(frozen=True)
class Node:
    """One operation: `op` is the name of a PyTorch (ATen) operator without its namespace, such as `conv2d`.

    `args` are all the operator's arguments in the order of its schema, defaults spelled out. The node's name is that of
    the value it makes.
    """

    name: str
    op: str
    args: tuple[Value, ...]

    def refs(self) -> tuple[str, ...]:
        """The names this node reads, in order, repeated where it reads one twice."""
        return tuple(_refs(self.args))


def _refs(value: Value) -> list[str]:
    if isinstance(value, Ref):
        return [value.name]
    return [name for part in value for name in _refs(part)] if isinstance(value, tuple) else []


@dataclass(frozen=True)
class Sparse:
    """A tensor of few non-zeros: `index` int64 [k], row-major positions in ascending order, and their `values` [k]."""

    shape: tuple[int, ...]
    index: "Tensor"
    values: "Tensor"

    def dense(self) -> "Tensor":
        """All of it, [*shape], of the values' dtype."""
        flat = self.values.new_zeros(self.shape).view(-1)
        flat[self.index] = self.values
        return flat.view(self.shape)

    @staticmethod
    def of(tensor: "Tensor") -> "Sparse":
        """The tensor by its non-zeros; a negative zero counts as one, so that no bit is lost."""
        flat = tensor.detach().contiguous().view(-1)
        index = ((flat != 0) | flat.signbit()).nonzero().view(-1)
        return Sparse(tuple(tensor.shape), index, flat[index])


@dataclass(frozen=True)
class SparseArray:
    """The same as `Sparse`, as arrays."""

    shape: tuple[int, ...]
    index: NDArray[np.int64]
    values: Array

    def dense(self) -> Array:
        """All of it, [*shape], of the values' dtype."""
        flat = np.zeros(int(np.prod(self.shape, dtype=np.int64)), self.values.dtype)
        flat[self.index] = self.values
        return flat.reshape(self.shape)


@dataclass(frozen=True)
class Outline:
    """A network in eval mode from images [n, *shape] to logits [n, classes], whatever its numbers are held in.

    `nodes` are in an order in which each reads only what stands before it; names are unique over input, tensors and
    nodes. `tensors` holds parameters, buffers and constants, under their names in the `state_dict` where they have one.
    `batch` is the only number of images the graph takes at once, None where any number will do.
    """

    input: str
    shape: tuple[int, ...]
    nodes: tuple[Node, ...]
    output: str
    tensors: Mapping[str, Any]
    batch: int | None = None

    def readers(self) -> dict[str, list[Node]]:
        """Of each name, the nodes that read it; the output has no reader of its own."""
        found: dict[str, list[Node]] = {name: [] for name in (self.input, *self.tensors, *(n.name for n in self.nodes))}
        for node in self.nodes:
            for name in dict.fromkeys(node.refs()):
                found[name].append(node)
        return found

    def pruned(self) -> Self:
        """The same graph without nodes and tensors that the output does not depend on."""
        needed = {self.output}
        nodes: list[Node] = []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.refs())
                nodes.append(node)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in needed}
        return replace(self, nodes=tuple(reversed(nodes)), tensors=tensors)


@dataclass(frozen=True)
class Graph(Outline):
    """A network with its numbers in PyTorch's tensors: what is captured, rewritten and interpreted."""

    tensors: Mapping[str, "Tensor | Sparse"]

    def tensor(self, name: str) -> "Tensor":
        """A tensor of the graph, dense."""
        found = self.tensors[name]
        return found.dense() if isinstance(found, Sparse) else found


@dataclass(frozen=True)
class ArrayGraph(Outline):
    """A network with its numbers in arrays: what is read of a file and compiled, without PyTorch."""

    tensors: Mapping[str, "Array | SparseArray"]

    def tensor(self, name: str) -> Array:
        """A tensor of the graph, dense."""
        found = self.tensors[name]
        return found.dense() if isinstance(found, SparseArray) else found


def stands_for(name: str, width: int) -> "np.dtype[Any]":
    """How arrays hold numbers of a PyTorch dtype that numpy lacks: as bits, `width` bytes each, under its name."""
    return np.dtype([(name, f"u{width}")])


BFLOAT16 = stands_for("bfloat16", 2)
FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})


def dtype_name(values: "Array | Tensor") -> str:
    """`float32`: PyTorch's name of the numbers in an array or tensor."""
    names = getattr(values.dtype, "names", None)
    return str(names[0] if names else values.dtype).removeprefix("torch.")


def stored(item: "Array | Tensor | Sparse | SparseArray") -> Any:
    """The numbers that are there: all of a tensor, or those of a sparse one."""
    return item.values if isinstance(item, Sparse | SparseArray) else item

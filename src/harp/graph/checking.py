"""Whether a graph that came from a file may be run: names, operators, arguments, sizes."""

import math
from typing import Any

import numpy as np

from harp.errors import HarpError
from harp.graph.bounds import check_floats, check_scales
from harp.graph.cost import PARTS, Toll
from harp.graph.ir import FLOATS, Node, Outline, Sparse, SparseArray, stored
from harp.graph.operators import FIXED, fits, operator
from harp.graph.propagating import Unknown, propagated
from harp.graph.rules import Blank

IMAGE = 2**22  # numbers of one image: 1,182 x 1,182 pixels in colour
BATCH = 2**24  # ... of those that a graph takes at once
# Elements of all tensors together, dense: at least 2**25, and 2**14 times what is stored (99.99 % sparse is 2**13.3).
TENSORS, SPARSITY = 2**25, 2**14
NODES = 2**13  # ResNet-1202 has half as many


def check(graph: Outline, unknown: Unknown | None = None) -> None:
    """Passes a graph that can be run safely; nothing is computed with its numbers.

    Names are unique and read only after they were made, operators are among `harp.graph.operators`, arguments are what
    the operator's schema asks for and numbers that float32 holds, values and work are within reason (`cost`), and
    [n, *shape] gives [n, classes]. What shapes no rule tells, `unknown` does (None: PyTorch). Raises `HarpError` that
    names the node otherwise.
    """
    numbers = _check_tensors(graph)
    made = _check_names(graph)
    for node in graph.nodes:
        _check_arguments(node, made)
    if made.get(graph.output) != "Tensor":
        raise HarpError(f"the graph's output {graph.output!r} is no tensor that it makes")
    _check_sizes(graph, numbers, unknown)


def _check_tensors(graph: Outline) -> int:
    """How many numbers the graph stores."""
    for name, tensor in graph.tensors.items():
        if isinstance(tensor, Sparse | SparseArray):
            _check_sparse(name, tensor)
    numbers = sum(int(math.prod(stored(tensor).shape)) for tensor in graph.tensors.values())
    dense = sum(math.prod(tensor.shape) for tensor in graph.tensors.values())
    if dense > max(TENSORS, SPARSITY * numbers):
        raise HarpError(f"the graph's tensors have {dense} elements for {numbers} stored ones; that is not believable")
    return numbers


def _check_sparse(name: str, tensor: Sparse | SparseArray) -> None:
    size = math.prod(tensor.shape)
    index = np.asarray(tensor.index)
    right = index.ndim == tensor.values.ndim == 1 and len(index) == len(tensor.values) and index.dtype == np.int64
    if not right or not all(type(length) is int and length >= 0 for length in tensor.shape):
        raise HarpError(f"the sparse tensor {name!r} is not one: expected int64 positions, as many values, a shape")
    if len(index) and (index[0] < 0 or index[-1] >= size or bool((np.diff(index) <= 0).any())):
        raise HarpError(f"the sparse tensor {name!r} has positions that do not ascend within its {size} elements")


def _check_names(graph: Outline) -> dict[str, str]:
    """What kind of value each name stands for, once each name is known to be unique and made before it is read."""
    if len(graph.nodes) > NODES:
        raise HarpError(f"the graph has {len(graph.nodes)} nodes; expected at most {NODES}")
    made = dict.fromkeys((graph.input, *graph.tensors), "Tensor")
    if graph.input in graph.tensors:
        raise HarpError(f"the graph's input and a tensor are both called {graph.input!r}")
    for node in graph.nodes:
        missing = [name for name in node.refs() if name not in made]
        if missing:
            raise HarpError(f"node {node.name!r} reads {missing[0]!r}, which nothing before it makes")
        if node.name in made:
            raise HarpError(f"two values of the graph are called {node.name!r}")
        made[node.name] = operator(node.op).kind
    return made


def _check_arguments(node: Node, made: dict[str, str]) -> None:
    parameters = operator(node.op).parameters
    if len(node.args) != len(parameters):
        raise HarpError(f"node {node.name!r}: {node.op} takes {len(parameters)} arguments, not {len(node.args)}")
    for value, parameter in zip(node.args, parameters, strict=True):
        right = fits(value, parameter.kind, made)
        if not right or value != FIXED.get((node.op, parameter.name), value):
            raise HarpError(
                f"node {node.name!r}: {node.op} takes no {str(value)[:80]} for {parameter.name} ({parameter.kind})"
            )
    check_floats(node)
    if node.op == "tensor_split.sections" and isinstance(node.args[1], int) and node.args[1] > PARTS:
        raise HarpError(f"node {node.name!r}: {node.op} takes no {node.args[1]} sections; expected at most {PARTS}")


def _check_sizes(graph: Outline, numbers: int, unknown: Unknown | None) -> None:
    """Runs the graph on tensors that have shapes and no contents."""
    image, batch = tuple(graph.shape), 1 if graph.batch is None else graph.batch
    if not all(type(size) is int and 0 < size < 2**31 for size in (*image, batch)):
        raise HarpError(f"the graph takes images of shape {list(image)}, {batch} at once; expected sizes above 0")
    if math.prod(image) > IMAGE or math.prod((*image, batch)) > BATCH:
        raise HarpError(
            f"the graph takes images of shape {list(image)}, {batch} at once; expected at most {IMAGE:,} numbers an "
            f"image and {BATCH:,} at once"
        )
    nodes = {node.name: node for node in graph.nodes}
    splitters = {name for node in graph.nodes if operator(node.op).kind == "Tensors" for name in node.refs()}
    toll, logits = Toll(graph, numbers, batch), Blank((), "float32")
    values: dict[str, Any] = {}
    for name, value in propagated(graph, batch, unknown):
        values[name] = value
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, Blank) and name in splitters and max(part.shape, default=0) > PARTS:
                raise HarpError(f"{name!r} of shape {list(part.shape)} would be split; expected at most {PARTS} parts")
        if name in nodes:
            check_scales(nodes[name], values, value)
            toll.add(nodes[name], value)
        else:
            toll.begin(name, value)
        logits = value if name == graph.output else logits
    if len(logits.shape) != 2 or logits.shape[0] != batch or logits.dtype not in FLOATS:
        raise HarpError(f"the graph gives {logits.dtype} {list(logits.shape)}; expected logits [{batch}, classes]")

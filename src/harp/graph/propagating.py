"""The shapes of a graph's values, without computing any."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harp.errors import HarpError
from harp.graph.ir import FLOATS, Node, Outline, Ref, Value, dtype_name, stored
from harp.graph.rules import Blank, by_rule

# What a node makes of blanks by name, where no rule tells.
Unknown = Callable[[Node, Mapping[str, Any]], Any]


def kind(graph: Outline) -> str:
    """What the graph computes in: the dtype of its first tensor of floating point, float32 where it has none."""
    found = (dtype_name(stored(tensor)) for tensor in graph.tensors.values())
    return next((name for name in found if name in FLOATS), "float32")


def propagated(graph: Outline, batch: int, unknown: Unknown | None = None) -> Iterator[tuple[str, Any]]:
    """Each name and its value for `batch` images, in order: a `Blank`, several, or an int.

    `unknown` tells what no rule does (None: PyTorch). Raises `HarpError` where shapes do not fit.
    """
    values: dict[str, Any] = {name: Blank.of(tensor) for name, tensor in graph.tensors.items()}
    values[graph.input] = Blank((batch, *graph.shape), kind(graph))
    yield from list(values.items())
    for node in graph.nodes:
        made = by_rule(node.op, [filled(value, values) for value in node.args])
        values[node.name] = (unknown or _by_torch())(node, values) if made is None else made
        yield node.name, values[node.name]


def _by_torch() -> Unknown:
    # Late, because graphs that rules suffice for are read without PyTorch.
    from harp.graph.meta import by_torch

    return by_torch


def by_nobody(node: Node, values: Mapping[str, Any]) -> Any:
    """Raises `HarpError`: without PyTorch nobody runs what no rule tells of."""
    raise HarpError(left_to_torch(node))


def left_to_torch(node: Node) -> str:
    """A sentence on a layer that PyTorch runs for the engine, where there is none to run it."""
    return (
        f"the layer {node.name!r} ({node.op}) is one that PyTorch runs for the sparse engine, and there is no PyTorch "
        "here; pip install harp-pruning, whose harp.load runs it"
    )


def filled(value: Value, values: Mapping[str, Any]) -> Any:
    """An argument with values in the place of their names, tuples as lists."""
    if isinstance(value, Ref):
        return values[value.name]
    return [filled(part, values) for part in value] if isinstance(value, tuple) else value

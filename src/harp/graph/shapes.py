"""The shapes of a graph's values, without computing any."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from harp.graph.interpret import carry_out, filled, steps
from harp.graph.ir import Graph, Sparse
from harp.graph.rules import by_rule


def dtype(graph: Graph) -> torch.dtype:
    """What the graph computes in: the dtype of its first tensor of floating point, float32 where it has none."""
    found = (t.values.dtype if isinstance(t, Sparse) else t.dtype for t in graph.tensors.values())
    return next((kind for kind in found if kind.is_floating_point), torch.float32)


def propagated(graph: Graph, batch: int) -> Iterator[tuple[str, Any]]:
    """Each name and its value for `batch` images, in order: a tensor on the `meta` device, several, or an int.

    Raises `HarpError` where shapes do not fit.
    """
    values: dict[str, Any] = {name: _blank(tensor) for name, tensor in graph.tensors.items()}
    values[graph.input] = torch.empty((batch, *graph.shape), dtype=dtype(graph), device="meta")
    yield from list(values.items())
    for step, node in zip(steps(graph, torch.device("meta")), graph.nodes, strict=True):
        made = by_rule(node.op, [filled(value, values) for value in node.args])
        values[step.name] = carry_out(step, values) if made is None else made
        yield step.name, values[step.name]


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of the input, of every tensor and of every node that makes one tensor.

    For two images, so that the axis of images is never one of length 1, or for the graph's own number of images.
    """
    batch = 2 if graph.batch is None else graph.batch
    return {name: tuple(v.shape) for name, v in propagated(graph, batch) if isinstance(v, Tensor)}


def _blank(tensor: Tensor | Sparse) -> Tensor:
    kind = tensor.values.dtype if isinstance(tensor, Sparse) else tensor.dtype
    return torch.empty(torch.Size(tensor.shape), dtype=kind, device="meta")

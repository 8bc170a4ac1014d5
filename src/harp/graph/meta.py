"""What PyTorch knows of shapes that no rule tells: by tensors of the `meta` device, which hold no numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harp.graph.interpret import carry_out, step_of
from harp.graph.ir import Graph, Node, Outline
from harp.graph.propagating import kind, propagated
from harp.graph.rules import Blank


def by_torch(node: Node, values: Mapping[str, Any]) -> Any:
    """What the node makes of blanks; raises `HarpError` where shapes do not fit."""
    given = {name: _meta(values[name]) for name in node.refs()}
    return _blank(carry_out(step_of(node, torch.device("meta")), given))


def dtype(graph: Outline) -> torch.dtype:
    """What the graph computes in: the dtype of its first tensor of floating point, float32 where it has none."""
    found: torch.dtype = getattr(torch, kind(graph))
    return found


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of the input, of every tensor and of every node that makes one tensor.

    For two images, so that the axis of images is never one of length 1, or for the graph's own number of images.
    """
    batch = 2 if graph.batch is None else graph.batch
    return {name: value.shape for name, value in propagated(graph, batch) if isinstance(value, Blank)}


def _meta(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_meta(part) for part in value]
    if not isinstance(value, Blank):
        return value
    return torch.empty(value.shape, dtype=getattr(torch, value.dtype), device="meta")


def _blank(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_blank(part) for part in value)
    return Blank.of(value) if isinstance(value, Tensor) else value

"""Which tensors of a package are weights, and how many of their entries are not zero."""

from collections.abc import Iterable

import torch
from torch import Tensor

from harp.graph import Graph, Sparse
from harp.package.manifest import Manifest


def weight_names(graph: Graph, manifest: Manifest) -> tuple[str, ...]:
    """The tensors of `graph` that the manifest calls weights; of files that do not say, all that look like one.

    A weight has two axes or more of floating-point numbers; other tensors are none, whatever a manifest claims.
    """
    said = graph.tensors if manifest.weights is None else manifest.weights
    return tuple(name for name in said if name in graph.tensors and looks_like_one(graph.tensors[name]))


def looks_like_one(tensor: Tensor | Sparse) -> bool:
    """Whether a tensor may be a weight: two axes or more of floating-point numbers."""
    return len(tensor.shape) > 1 and _values(tensor).is_floating_point()


def count(graph: Graph, names: Iterable[str]) -> tuple[int, int]:
    """Entries of the tensors of these names together, and how many of them are not zero."""
    found = [graph.tensors[name] for name in names]
    total = sum(torch.Size(tensor.shape).numel() for tensor in found)
    return total, sum(int(_values(tensor).count_nonzero()) for tensor in found)


def _values(tensor: Tensor | Sparse) -> Tensor:
    return tensor.values if isinstance(tensor, Sparse) else tensor

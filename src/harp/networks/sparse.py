"""Faster copies of a pruned network, for attacks to search with."""

import weakref

import torch
from torch import Tensor, nn

from harp.attacks import Offered
from harp.export.pack import small
from harp.models import Function
from harp.runtime import compile
from harp.runtime.gradients import Differentiable
from harp.sparsity import find_weights

# The largest share of weights left with which gradients, too, are quicker: docs/results, "Searching with what a package
# computes".
SPARSE = 0.25


class SparseCopies:
    """What a package of a network computes, on the sparse engine: with gradients, and all at once without.

    Called with a network and examples, as attacks call an `Offer`. None for a network with more than a quarter of its
    weights left, and for images that are not float32 on the CPU. Copies of the last network are kept for as long as it
    lives, so that all attacks of an evaluation share them; raises `HarpError` for a network that cannot be captured,
    and where the engine is not built.
    """

    def __init__(self) -> None:
        self._made: tuple[weakref.ref[nn.Module], Offered] | None = None

    def __call__(self, model: nn.Module, example: Tensor) -> Offered | None:
        if self._made is not None and self._made[0]() is model:
            return self._made[1]
        weights = [site.param for site in find_weights(model)]
        left = sum(int(weight.count_nonzero()) for weight in weights)
        if example.device.type != "cpu" or example.dtype != torch.float32:
            return None
        if not weights or left > SPARSE * sum(weight.numel() for weight in weights):
            return None
        offered = copies(model, example)
        self._made = (weakref.ref(model), offered)
        return offered


def copies(model: nn.Module, example: Tensor) -> Offered:
    """The copies of any network, quicker or not; raises `HarpError` as `SparseCopies` does."""
    graph, threads = small(model, example).graph, torch.get_num_threads()
    return Offered(Function(Differentiable(graph, threads)), Function(compile(graph, threads)))

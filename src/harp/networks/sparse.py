"""Faster copies of a pruned network, for attacks to search with."""

from weakref import WeakKeyDictionary

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
# The copies of every network that lives, and what they were made under.
_MADE: WeakKeyDictionary[nn.Module, tuple[object, Offered]] = WeakKeyDictionary()


def sparse_copies(model: nn.Module, example: Tensor) -> Offered | None:
    """What a package of a network computes, on the sparse engine: with gradients, and all at once without.

    An `Offer` of attacks. None for a network with more than a quarter of its weights left, and for images that are not
    float32 on the CPU. Capturing a network takes longer than many an attack on it, so its copies are kept for as long
    as it lives and no tensor of it changes; raises `HarpError` for one that cannot be captured, and where the engine
    is not built.
    """
    if example.device.type != "cpu" or example.dtype != torch.float32:
        return None
    state, made = _state(model), _MADE.get(model)
    if made is not None and made[0] == state:
        return made[1]
    weights = [site.param for site in find_weights(model)]
    left = sum(int(weight.count_nonzero()) for weight in weights)
    if not weights or left > SPARSE * sum(weight.numel() for weight in weights):
        return None
    offered = copies(model, example)
    _MADE[model] = (state, offered)
    return offered


def _state(model: nn.Module) -> object:
    """Where each tensor of the network lies and how often it was written, as far as PyTorch counts; the threads."""
    tensors = (*model.parameters(), *model.buffers())
    return torch.get_num_threads(), [(tensor.data_ptr(), tensor._version) for tensor in tensors]


def copies(model: nn.Module, example: Tensor) -> Offered:
    """The copies of any network, quicker or not; raises `HarpError` as `sparse_copies` does."""
    graph, threads = small(model, example).graph, torch.get_num_threads()
    return Offered(Function(Differentiable(graph, threads)), Function(compile(graph, threads)))

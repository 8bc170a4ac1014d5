"""What every objective is: a generator of closures, one closure per optimiser step."""

from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from harp.registry import Registry
from harp.runs import Tree

Closure = Callable[[], Tensor]


class Objective:
    """`objective(model, x, y, noise)` yields `replays` closures, one per optimiser step.

    Each evaluates the batch's loss. The model is in train mode. `noise` is a generator on the device of `x`. Closures,
    not losses, so that a sharpness-aware step can evaluate a batch twice. What an objective remembers from batch to
    batch is in its state.
    """

    replays: int = 1
    """Optimiser steps per batch."""

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        """The closures of images `x` float [n, ...] and labels `y` int64 [n]."""

    def notes(self) -> list[str]:
        """What a reader of the results should know of the training so far."""
        return []

    def state_dict(self) -> Tree:
        """All that `load_state_dict` needs to go on bit for bit after any step: tensors and JSON values."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Takes up the state that `state_dict` gave."""


OBJECTIVES: Registry[Callable[..., Objective]] = Registry("objective")

"""What every objective is: a generator of closures, one closure per optimizer step."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from harp.registry import Registry
from harp.runs import Tree

Closure = Callable[[], Tensor]

BatchNorm = Literal["adversarial", "mixed"]
"""Which batches move the running statistics of batch norms.

"adversarial": those of the loss alone. "mixed": as the published training code of HARP and HYDRA has it, whatever the
loss: a clean train-mode forward, there for the log, comes before the attack, which so sees what it changed (METHODS
1.10, point 1).
"""


class Objective:
    """`objective(model, x, y, noise)` yields `replays` closures, one per optimizer step.

    Each evaluates the batch's loss. The model is in train mode. `noise` is a generator on the device of `x`. Closures,
    not losses, so that a sharpness-aware step can evaluate a batch twice. What an objective remembers from batch to
    batch is in its state.
    """

    replays: int = 1
    """Optimizer steps per batch."""
    parts: int = 1
    """In how many parts a batch is worked through."""
    moves_images: ClassVar[bool] = False
    """Whether the backward pass of a step also changes the images of the next."""
    takes_probabilities: ClassVar[bool] = False
    """Whether labels may be probabilities, floats [n, classes]."""

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


class Around(Objective):
    """Another objective on batches that are made of the given ones; what that remembers is its own."""

    objective: Objective

    @property
    def replays(self) -> int:  # type: ignore[override]
        """Those of the objective."""
        return self.objective.replays

    @property
    def moves_images(self) -> bool:  # type: ignore[override]
        """Whether the objective's backward pass does."""
        return self.objective.moves_images

    def notes(self) -> list[str]:
        return self.objective.notes()

    def state_dict(self) -> Tree:
        return self.objective.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        self.objective.load_state_dict(state)


@torch.no_grad()
def observe(model: nn.Module, x: Tensor, batch_norm: BatchNorm) -> None:
    """In "mixed" statistics one train-mode forward of `x` that no gradient and no loss sees; else nothing."""
    if batch_norm == "mixed":
        model(x)


def has_teacher(factory: Callable[..., Objective]) -> bool:
    """Whether an objective learns from another network, which it takes as its `teacher`."""
    return "teacher" in inspect.signature(factory).parameters


def is_attacked(factory: Callable[..., Objective]) -> bool:
    """Whether an objective trains on attacked images, for which it takes a `threat`."""
    return "threat" in inspect.signature(factory).parameters


OBJECTIVES: Registry[Callable[..., Objective]] = Registry("objective", "objectives")

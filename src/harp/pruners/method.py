"""What a method is told, and what it may ask for: its options, the course of its stage, each moment of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harp.config import Settings
from harp.randomness import generator


class Options(Settings):
    """A method's settings beside its budget, each a field with a default and a docstring; this one has none."""

    def unused(self) -> dict[str, str]:
        """Settings that were made and that the others leave no use for, each with the reason; they become notes."""
        return {}


@dataclass(frozen=True)
class Course:
    """How long the stage of a method is, and what names its random draws.

    `steps`: optimizer steps in all, None where nobody knows (a loop of one's own). `part`: of the batch this process
    sees the part (i, k), the i-th of k equal ones.
    """

    steps_per_epoch: int
    steps: int | None = None
    seed: int = 0
    part: tuple[int, int] = (0, 1)

    def noise(self, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of one draw, a function of the seed and its names alone."""
        return generator(self.seed, "method", *names, device=device)


@dataclass(frozen=True)
class Moment:
    """After optimizer step number `step`; 0 is before the first. `loss` is the last batch's, None where there is none.

    `lr` is the learning rate of the optimizer's first group at this step. Without an `optimizer` nobody trains: the
    method may be asked for its weights all the same.
    """

    step: int
    optimizer: Optimizer | None = None
    loss: Tensor | None = None
    lr: float | None = field(init=False)

    def __post_init__(self) -> None:
        lr = None if self.optimizer is None else float(self.optimizer.param_groups[0]["lr"])
        object.__setattr__(self, "lr", lr)

    def setting(self, role: str, name: str) -> Any:
        """A setting of the optimizer's group for `role`, such as its "weight_decay"; None where there is none."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        return next((group.get(name) for group in groups if group.get("role") == role), None)

    @torch.no_grad()
    def forget(self, param: nn.Parameter, where: Tensor) -> None:
        """What the optimizer remembers (momentum) of the entries of `param` that are true in `where` is 0."""
        state = {} if self.optimizer is None else self.optimizer.state.get(param, {})
        for value in state.values():
            if isinstance(value, Tensor) and value.shape == param.shape:
                value.masked_fill_(where.to(value.device), 0)


@dataclass(frozen=True)
class Role:
    """Parameters that train alike. `weight_decay` None is the optimizer's own; `lr` is a factor."""

    params: list[nn.Parameter]
    weight_decay: float | None = None
    lr: float = 1.0


@dataclass(frozen=True)
class Scoring:
    """One pass over the stage's training images before its first step, for methods that score weights beforehand.

    Both go batch by batch, the model being in eval mode and giving plain logits meanwhile. `losses()` gives the stage's
    loss (its objective's, adversarial images included) as a function to call and differentiate; `batches()` the
    adversarial images of the attack that is trained against, whatever the objective, with their labels: x' float
    [n, ...] and y int64 [n].
    """

    model: nn.Module
    losses: Callable[[], Iterator[Callable[[], Tensor]]]
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]] = lambda: iter(())

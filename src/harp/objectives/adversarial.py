"""Natural and PGD adversarial training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import Attack
from harp.registry import Registry
from harp.threats import Threat

Closure = Callable[[], Tensor]


class Objective(Protocol):
    """`objective(model, x, y, noise)` yields closures, one per optimiser step; each evaluates the batch's loss.

    The model is in train mode. `noise` is a generator on the device of `x`. Closures, not losses, so that a
    sharpness-aware step can evaluate a batch twice.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]: ...


OBJECTIVES: Registry[Callable[..., Objective]] = Registry("objective")


@OBJECTIVES.register("natural")
@dataclass(frozen=True)
class Natural:
    """The cross-entropy of the images as they are."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        yield lambda: cross_entropy(model(x), y)


@OBJECTIVES.register("pgd-at")
@dataclass(frozen=True)
class PGDAT:
    """The cross-entropy of adversarial images alone (PGD-AT; Madry et al., ICLR 2018).

    `batch_norm`: "adversarial" updates running statistics with the adversarial batch only; "mixed" adds one
    clean train-mode forward per step, as HARP's and HYDRA's published code does for its log (METHODS 1.10, point 1).
    """

    attack: Attack
    threat: Threat
    batch_norm: Literal["adversarial", "mixed"] = "adversarial"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        adv = self.attack(model, x, y, self.threat, noise)
        if self.batch_norm == "mixed":
            with torch.no_grad():
                model(x)
        yield lambda: cross_entropy(model(adv), y)

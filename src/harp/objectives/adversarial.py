"""Natural and PGD adversarial training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import Attack
from harp.objectives.base import OBJECTIVES, Closure, Objective
from harp.threats import Threat


@OBJECTIVES.register("natural")
@dataclass(frozen=True)
class Natural(Objective):
    """The cross-entropy of the images as they are."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        yield lambda: cross_entropy(model(x), y)


@OBJECTIVES.register("pgd-at")
@dataclass(frozen=True)
class PGDAT(Objective):
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

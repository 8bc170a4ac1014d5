"""Natural and PGD adversarial training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import Attack
from harp.objectives.base import OBJECTIVES, BatchNorm, Closure, Objective, observe
from harp.threats import Threat


@OBJECTIVES.register("natural")
@dataclass(frozen=True)
class Natural(Objective):
    """The cross-entropy of the images as they are, against labels smoothed by `smoothing`."""

    smoothing: float = 0.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        yield lambda: cross_entropy(model(x), y, label_smoothing=self.smoothing)


@OBJECTIVES.register("pgd-at")
@dataclass(frozen=True)
class PGDAT(Objective):
    """The cross-entropy of adversarial images alone (PGD-AT; Madry et al., ICLR 2018).

    Labels are smoothed by `smoothing` in what is trained, and whole in the attack.
    Running statistics see the adversarial batch; with `batch_norm` "mixed" the clean one before the attack, too.
    """

    attack: Attack
    threat: Threat
    batch_norm: BatchNorm = "adversarial"
    smoothing: float = 0.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        observe(model, x, self.batch_norm)
        adv = self.attack(model, x, y, self.threat, noise)
        yield lambda: cross_entropy(model(adv), y, label_smoothing=self.smoothing)

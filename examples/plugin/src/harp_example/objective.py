"""An objective: the mean of the losses on clean and on attacked images."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp import Threat
from harp.attacks import Attack
from harp.objectives import Closure, Objective


@dataclass(frozen=True)
class CleanAndAttacked(Objective):
    """Half of the loss from images as they are, half from attacked ones (Goodfellow et al., ICLR 2015)."""

    attack: Attack
    threat: Threat

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        adv = self.attack(model, x, y, self.threat, noise)
        yield lambda: (cross_entropy(model(x), y) + cross_entropy(model(adv), y)) / 2

"""A robust teacher's answers as labels, on images that are attacked for the student (METHODS 9.4)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD, Attack
from harp.attacks.losses import divergence
from harp.models import logits_of
from harp.objectives.base import OBJECTIVES, Closure
from harp.objectives.teaching import Taught
from harp.threats import Threat


@OBJECTIVES.register("ard")
@dataclass
class ARD(Taught):
    """`alpha` T^2 KL(t(x) || p(x')) + (1 - `alpha`) CE(f(x), y), x' from `attack` (ARD; Goldblum et al., AAAI 2020).

    t and p are teacher's and student's answers at temperature T, the images of t clean. `teacher` as in `Taught`.
    """

    attack: Attack
    threat: Threat
    teacher: nn.Module = field(repr=False)
    alpha: float = 1.0
    temperature: float = 1.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        with torch.no_grad():
            taught = self.taught(x)
        adv = self.attack(model, x, y, self.threat, noise)

        def evaluate() -> Tensor:
            hot = self.temperature
            loss = self.alpha * hot**2 * divergence(model(adv) / hot, taught / hot).mean()
            return loss if self.alpha == 1 else loss + (1 - self.alpha) * cross_entropy(model(x), y)

        yield evaluate


@OBJECTIVES.register("rslad")
@dataclass
class RSLAD(Taught):
    """`alpha` KL(t(x) || p(x')) + (1 - `alpha`) KL(t(x) || p(x)), x' where the first is largest (RSLAD; ICCV 2021).

    Zi et al. Of `attack` the steps and their size count; the start is near the image, as published. No label is needed.
    `teacher` as in `Taught`.
    """

    attack: PGD
    threat: Threat
    teacher: nn.Module = field(repr=False)
    alpha: float = 5 / 6

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        with torch.no_grad():
            taught = self.taught(x)
        adv = self.attack.climb(model, x, lambda logits: divergence(logits, taught), self.threat, noise)

        def evaluate() -> Tensor:
            loss = self.alpha * divergence(model(adv), taught).mean()
            return loss if self.alpha == 1 else loss + (1 - self.alpha) * divergence(model(x), taught).mean()

        yield evaluate


@OBJECTIVES.register("adaad")
@dataclass
class AdaAD(Taught):
    """`alpha` KL(t(x') || p(x')) + (1 - `alpha`) KL(t(x) || p(x)), x' where the two disagree most (AdaAD; CVPR 2023).

    Huang et al. The gradient at an image passes through both networks, which takes twice an attack's time where they
    are of one size. Of `attack` the steps and their size count; the start is near the image, as published. No label is
    needed. `teacher` as in `Taught`.
    """

    attack: PGD
    threat: Threat
    teacher: nn.Module = field(repr=False)
    alpha: float = 1.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        pair = _Pair(model, self.teacher)
        adv = self.attack.climb(pair, x, lambda both: divergence(*both.chunk(2, 1)), self.threat, noise)
        with torch.no_grad():
            at_adv, at_x = self.taught(adv), self.taught(x)

        def evaluate() -> Tensor:
            loss = self.alpha * divergence(model(adv), at_adv).mean()
            return loss if self.alpha == 1 else loss + (1 - self.alpha) * divergence(model(x), at_x).mean()

        yield evaluate


class _Pair(nn.Module):
    """The logits of both, the student's first, [n, 2 classes]."""

    def __init__(self, student: nn.Module, teacher: nn.Module):
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, x: Tensor) -> Tensor:
        student = logits_of(self.student(x))
        return torch.cat([student, logits_of(self.teacher(x)).to(student)], 1)

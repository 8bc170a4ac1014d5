"""Training for certificates: Gaussian noise on the images, and answers that stay alike under it (METHODS 9.14)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.attacks.losses import divergence
from harp.objectives.base import OBJECTIVES, Closure, Objective
from harp.randomness import normal
from harp.threats import Threat
from harp.wrappers import alone


@OBJECTIVES.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Objective):
    """The cross-entropy of images under Gaussian noise of deviation `sigma` (Cohen et al., ICML 2019).

    Labels are smoothed by `smoothing`. Noisy images leave the box of pixels, as those of a certificate do.
    """

    sigma: float = 0.25
    smoothing: float = 0.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        seen = x + self.sigma * normal(noise, x)
        yield lambda: cross_entropy(model(seen), y, label_smoothing=self.smoothing)


@OBJECTIVES.register("stability")
@dataclass(frozen=True)
class Stability(Objective):
    """CE(f(x), y) + `beta` KL(p(x) || p(x + noise)), noise Gaussian of deviation `sigma` (Li et al., NeurIPS 2019).

    What HYDRA trains for its certificates (Sehwag et al., NeurIPS 2020).
    """

    sigma: float = 0.25
    beta: float = 6.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        seen = x + self.sigma * normal(noise, x)

        def evaluate() -> Tensor:
            clean = model(x)
            return cross_entropy(clean, y) + self.beta * divergence(model(seen), clean).mean()

        yield evaluate


@OBJECTIVES.register("consistency")
@dataclass(frozen=True)
class Consistency(Objective):
    """Cross-entropy under two draws of noise, and how far their answers are apart (Jeong & Shin, NeurIPS 2020).

    mean CE(f(x + noise_i), y) + `beta` mean KL(q || p_i) + 0.5 H(q), p_i the answers under each draw, q their mean, H
    the entropy. Each image is seen twice a step, in one batch.
    """

    sigma: float = 0.25
    beta: float = 10.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        seen = torch.cat([x + self.sigma * normal(noise, x) for _ in range(2)])

        def evaluate() -> Tensor:
            logits = model(seen)
            logs = torch.stack(logits.log_softmax(1).chunk(2))
            mean = logs.exp().mean(0)
            log = mean.clamp(min=1e-20).log()
            apart = (mean * (log - logs)).sum(2).mean()
            unsure = -(mean * log).sum(1).mean()
            return cross_entropy(logits, torch.cat([y, y])) + self.beta * apart + 0.5 * unsure

        yield evaluate


@OBJECTIVES.register("smoothadv")
@dataclass(frozen=True)
class SmoothAdv(Objective):
    """The cross-entropy of images attacked under noise, under the same `draws` of noise (Salman et al., NeurIPS 2019).

    PGD raises -log mean_i p_y(x' + noise_i) within the threat, whose norm should be 2, as that of certificates by
    smoothing is; then mean_i CE(f(x' + noise_i), y) is what trains, labels smoothed by `smoothing`. Of `attack` the
    steps, their size and the restarts count; it begins at the image, as published. Each image is seen `draws` times a
    step, in one batch, and as often in each step of the attack. The published warm-up of eps is not part of it.
    """

    attack: PGD
    threat: Threat
    sigma: float = 0.25
    draws: int = 2
    smoothing: float = 0.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        drawn = torch.stack([self.sigma * normal(noise, x) for _ in range(self.draws)])
        attack = replace(self.attack, loss="crossentropy", start="image")
        adv = attack(_Averaged(alone(model), drawn), x, y, self.threat, noise)
        seen, labels = _under(adv, drawn), torch.cat([y] * self.draws)
        yield lambda: cross_entropy(model(seen), labels, label_smoothing=self.smoothing)

    def notes(self) -> list[str]:
        if self.threat.norm == 2:
            return []
        return [f"smoothadv attacked within {self.threat}; certificates by smoothing are of the 2-norm"]


class _Averaged(nn.Module):
    """The logarithms of the mean probabilities under `drawn` noise [m, n, ...], of the same n images each time."""

    def __init__(self, model: nn.Module, drawn: Tensor):
        super().__init__()
        self.model, self.drawn = model, drawn

    def forward(self, x: Tensor) -> Tensor:
        logs = self.model(_under(x, self.drawn)).log_softmax(1)
        return torch.stack(logs.chunk(len(self.drawn))).logsumexp(0) - math.log(len(self.drawn))


def _under(x: Tensor, drawn: Tensor) -> Tensor:
    """Images [n, ...] under each draw of noise [m, n, ...] in turn, [m n, ...]."""
    return (x + drawn).flatten(0, 1)

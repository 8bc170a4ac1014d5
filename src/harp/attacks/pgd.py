"""Projected gradient ascent, and the attacks that are settings of it: FGSM and C&W-inf."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from harp.attacks.base import Attack, guarded
from harp.attacks.cycles import LEAST, repeatable, settled
from harp.attacks.losses import LOSSES, Loss, divergence, gradient, wrong
from harp.modes import evaluating
from harp.randomness import Keyed, Noise, fork, given, normal
from harp.registry import Registry
from harp.threats import Threat, per_point
from harp.wrappers import alone

Measure = Callable[[Tensor], Tensor]
"""Logits [n, classes] -> losses [n]."""

ATTACKS: Registry[Callable[..., Attack]] = Registry("attack", "attacks")


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on `loss` (Madry et al., ICLR 2018): the last point of the best restart, per example.

    `step` is the step size as a share of eps; HARP's 0.0078 at eps 0.031 is a quarter. A restart that ends in a wrong
    answer beats one that does not; among equals the higher loss wins. `loss` "kl" is the divergence from the model's
    own answer to the image, no label needed. `start`: a random point of the ball, the image itself, or ("gaussian")
    the image with N(0, 0.001^2) on each pixel, as TRADES and MART begin: the gradient of "kl" is 0 at the image.
    `start_in_box` False leaves the start where it was drawn, pixels outside the box included, as all published training
    code does; from the first step on every point is inside. Each example's result depends on its own gradient and noise
    alone; in measuring (noise that is `Keyed`), norm inf and 30 steps or more, one that repeats itself is spared the
    rest, which changes no bit (`cycles`).
    """

    steps: int = 10
    step: float = 0.25
    restarts: int = 1
    loss: Literal["crossentropy", "dlr", "margin", "kl"] = "crossentropy"
    start: Literal["random", "image", "gaussian"] = "random"
    start_in_box: bool = True

    def fits(self, x: Tensor, threat: Threat) -> None:
        """Raises `HarpError` for norm 1, under which the steepest step is along one pixel."""
        threat.refuse_one()

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        model = alone(model)
        with evaluating(model):
            measure = self._measure(model, x, y)
            best = self._reached(model, x, measure, threat, noise)
            for restart in range(1, self.restarts):
                if restart == 1:
                    broken, loss = _verdict(model, best, y, measure)
                adv = self._reached(model, x, measure, threat, fork(noise, restart))
                new_broken, new_loss = _verdict(model, adv, y, measure)
                better = (new_broken & ~broken) | ((new_broken == broken) & (new_loss > loss))
                best = torch.where(per_point(better, x), adv, best)
                broken, loss = broken | new_broken, torch.where(better, new_loss, loss)
        return best

    @torch.no_grad()
    def climb(self, model: nn.Module, x: Tensor, measure: Measure, threat: Threat, noise: Noise) -> Tensor:
        """The last point of one ascent on `measure` of the logits, from near the image ("gaussian"), per example.

        For training on what no label tells; of the attack the steps and their size count. The settings that a call pins
        are the caller's to pin.
        """
        model = alone(model)
        with evaluating(model):
            return replace(self, start="gaussian")._ascend(model, x, measure, threat, noise)

    def _measure(self, model: nn.Module, x: Tensor, y: Tensor) -> "_Against":
        """The loss as a function of logits alone."""
        if self.loss != "kl":
            return _Against(LOSSES[self.loss], y)
        with torch.no_grad():
            return _Against(divergence, model(x))

    def _reached(self, model: nn.Module, x: Tensor, measure: "_Against", threat: Threat, noise: Noise) -> Tensor:
        """The last point of one ascent, for each image of the batch."""
        long = self.steps >= LEAST and threat.norm == math.inf
        if not (long and isinstance(noise, Keyed) and repeatable(x.device)):
            return self._ascend(model, x, measure, threat, noise)

        def asked(adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            return _uphill(model, adv, measure.take(places))

        def moved(adv: Tensor, grad: Tensor, places: Tensor) -> Tensor:
            return self._moved(adv, grad, x[places], threat)

        return settled(asked, moved, self._first(x, threat, noise), self.steps)

    def _ascend(self, model: nn.Module, x: Tensor, measure: Measure, threat: Threat, noise: Noise) -> Tensor:
        adv = self._first(x, threat, noise)
        for _ in range(self.steps):
            adv = self._moved(adv, _uphill(model, adv, measure)[1], x, threat)
        return adv

    def _moved(self, adv: Tensor, grad: Tensor, x: Tensor, threat: Threat) -> Tensor:
        return threat.project(adv + threat.step(grad, self.step * threat.eps), x)

    def _first(self, x: Tensor, threat: Threat, noise: Noise) -> Tensor:
        if self.start == "image":
            return x.clone()
        # Without steps there is none that would bring the start back into the box.
        drawn = threat if self.start_in_box or not self.steps else replace(threat, low=-math.inf, high=math.inf)
        return drawn.start(x, noise) if self.start == "random" else drawn.project(x + 1e-3 * normal(noise, x), x)


@dataclass(frozen=True)
class _Against:
    """`loss` of the logits of images, against what there is for each: a label, or its clean logits."""

    loss: Loss
    given: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        return self.loss(logits, self.given)

    def take(self, places: Tensor) -> "_Against":
        """The same for some of the images."""
        return _Against(self.loss, self.given[places])


def _uphill(model: nn.Module, adv: Tensor, measure: Measure) -> tuple[Tensor, Tensor]:
    """The logits at `adv`, and the gradient of its loss there."""
    probe = adv.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(probe)
        total = measure(logits).sum()
    return logits.detach(), gradient(total, probe)


@torch.no_grad()
def _verdict(model: nn.Module, adv: Tensor, y: Tensor, measure: Measure) -> tuple[Tensor, Tensor]:
    logits = model(adv)
    return wrong(logits, y), measure(logits)


@ATTACKS.register("fgsm")
def fgsm() -> PGD:
    """One full step of the gradient's sign from the image itself (Goodfellow et al., ICLR 2015)."""
    return PGD(steps=1, step=1.0, start="image")


@ATTACKS.register("pgd")
def pgd(steps: int = 20, restarts: int = 1, step: float = 0.25) -> PGD:
    """PGD on the cross-entropy, 20 steps of eps / 4, with restarts (Madry et al., ICLR 2018)."""
    return PGD(steps=steps, restarts=restarts, step=step)


@ATTACKS.register("cw")
def cw(steps: int = 20, restarts: int = 1, step: float = 0.25) -> PGD:
    """PGD on the margin loss of Carlini & Wagner inside the eps-ball, 20 steps of eps / 4 (S&P 2017)."""
    return PGD(steps=steps, restarts=restarts, step=step, loss="margin")

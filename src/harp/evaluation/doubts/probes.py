"""What the checks ask of a network: logits, input gradients that may be missing, and searches that remember."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from harp.attacks import Attack
from harp.attacks.losses import Loss, crossentropy, gradient, margin
from harp.evaluation.doubts.geometry import corners, move
from harp.evaluation.steadiness import ask
from harp.randomness import Keyed
from harp.threats import Threat, per_point


class Path(NamedTuple):
    """What a search met on its way, for each of n points, all bool [n].

    `broken`: some image on the way was answered wrongly. `rose`: the margin loss was higher somewhere than at the
    start. `finite`: all logits were.
    """

    broken: Tensor
    rose: Tensor
    finite: Tensor

    @classmethod
    def of(cls, losses: Tensor) -> "Path":
        """The path along margin losses [steps + 1, n]."""
        return cls((losses > 0).any(0), (losses[1:] > losses[0]).any(0), losses.isfinite().all(0))

    def __or__(self, other: "Path") -> "Path":
        """Two searches taken as one."""
        return Path(self.broken | other.broken, self.rose | other.rose, self.finite & other.finite)


class Search(Protocol):
    """Something that looks for images answered wrongly, and tells not which but whether there were some."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Keyed) -> Path: ...


def slope(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, batch: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] and each point's gradient of `loss` with respect to its image, in the shape of `x`.

    The gradient is 0 where autograd knows no way from the logits back to the image.
    """
    size = batch or len(x)
    pairs = [_slope(model, *part, loss) for part in zip(torch.split(x, size), torch.split(y, size), strict=True)]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([grad for _, grad in pairs])


def _slope(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        total = loss(logits, y).sum()
    return logits.detach(), gradient(total, x)


def tempered(logits: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of each example at the temperature at which the largest of its logits is 10 off their mean.

    So the size of logits, which may make the cross-entropy itself useless, does not matter. The temperature is no part
    of the gradient.
    """
    centred = logits - logits.mean(1, keepdim=True)
    largest = centred.detach().abs().amax(1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny)
    return crossentropy(centred * (10 / largest), y)


@dataclass(frozen=True)
class Climb:
    """Projected gradient ascent on `loss`, with steps that shrink from eps / 2 to a hundredth of that.

    It begins at the image itself or at a random corner of the ball, takes `steps` gradients and looks once more. With
    `averaged` above 1 each gradient is the mean of so many, taken a third of the way towards random corners of the
    ball: what is shattered at small scales has a slope at large ones.
    """

    loss: Loss
    steps: int
    batch: int | None = None
    start: Literal["image", "corner"] = "image"
    averaged: int = 1

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Keyed) -> Path:
        seen = [margin(logits, y) for _, logits in self.images(model, x, y, threat, noise)]
        return Path.of(torch.stack(seen))

    def images(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Keyed
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image [n, ...] on the way, and its logits."""
        adv = x if self.start == "image" else corners(threat, x, signs(noise, x))
        for step in range(self.steps):
            logits, grad = slope(model, adv, y, self.loss, self.batch)
            yield adv, logits
            for turn in range(1, self.averaged):
                aside = corners(threat, x, signs(noise.at(step * self.averaged + turn), x))
                grad = grad + slope(model, adv + (aside - adv) / 3, y, self.loss, self.batch)[1]
            size = max(1 - step / self.steps, 0.01) * threat.eps / 2
            # NaN would stay in the image for good.
            adv = threat.project(adv + move(threat, grad.nan_to_num(0, 0, 0), size), x)
        yield adv, ask(model, adv, self.batch)


@dataclass(frozen=True)
class Blind:
    """Random search at corners of the ball: `queries` forward passes, no gradient; what raises the margin loss stays.

    Each query turns the signs of some pixels chosen at random: half of them at first, in the end a single one.
    """

    queries: int
    batch: int | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Keyed) -> Path:
        turns = signs(noise.at(0), x)
        losses = [margin(ask(model, corners(threat, x, turns), self.batch), y)]
        best = losses[0]
        for query in range(1, self.queries):
            share = max((1 - query / self.queries) ** 2 / 2, 1 / x[0].numel())
            turned = noise.at(query).uniform(x.shape[1:]).to(x) < share
            tried = torch.where(turned, -turns, turns)
            losses.append(margin(ask(model, corners(threat, x, tried), self.batch), y))
            # Where all is flat, walking on is better than standing still.
            turns = torch.where(per_point(losses[-1] >= best, x), tried, turns)
            best = torch.maximum(best, losses[-1])
        return Path.of(torch.stack(losses))


@dataclass(frozen=True)
class Ended:
    """The image that `attack` ends with, as a search that looks there alone."""

    attack: Attack
    batch: int | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Keyed) -> Path:
        adv = self.attack(model, x, y, threat, noise)
        return Path.of(torch.stack([margin(ask(model, image, self.batch), y) for image in (x, adv)]))


def together(searches: list[Search], model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Keyed) -> Path:
    """What several searches met, each with random numbers of its own."""
    return reduce(or_, [search(model, x, y, threat, noise.at(draw)) for draw, search in enumerate(searches)])


def signs(noise: Keyed, x: Tensor) -> Tensor:
    """Random signs, -1 or 1, in the shape of `x`."""
    return noise.uniform(x.shape[1:]).to(x).sub(0.5).sign()

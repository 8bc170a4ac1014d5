"""What an attacker may do to an image: a ball around it, cut by the box of valid pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harp.errors import HarpError
from harp.notation import fraction, order_of

# A threat is also what a package says of itself where there is no PyTorch, so that is imported where it is used.
if TYPE_CHECKING:
    from torch import Tensor

    from harp.randomness import Noise


@dataclass(frozen=True)
class Threat:
    """The perturbations of norm at most `eps` that leave every pixel in [`low`, `high`].

    `norm` is `math.inf`, 2 or 1, or is written "Linf", "L2" or "L1". `eps` is in the pixels' own unit, so 8/255 for
    images in [0, 1], and may be written "8/255"; a model that wants normalised inputs normalises inside itself. All
    verbs take batches of shape (n, ...) and work per example. Raises `ValueError` for another norm, a negative or
    non-finite `eps`, or an empty box.
    """

    norm: float = math.inf
    eps: float = 8 / 255
    low: float = 0.0
    high: float = 1.0

    def __init__(self, norm: float | str = math.inf, eps: float | str = 8 / 255, low: float = 0.0, high: float = 1.0):
        try:
            size = fraction(eps) if isinstance(eps, str) and "/" in eps else float(eps)
        except ValueError:
            raise ValueError(f"eps: expected a number or a fraction such as 8/255, got {eps!r}") from None
        for name, value in {"norm": order_of(norm), "eps": size, "low": low, "high": high}.items():
            object.__setattr__(self, name, value)
        if not 0 <= self.eps < math.inf:
            raise ValueError(f"eps: expected a finite number of at least 0, got {self.eps!r}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low!r} and {self.high!r}")

    def __str__(self) -> str:
        """`L-inf, eps 8/255`."""
        return f"L{'-inf' if self.norm == math.inf else f'{self.norm:g}'}, eps {exact(self.eps)}"

    def start(self, x: Tensor, noise: Noise) -> Tensor:
        """A random point of the ball around each image, inside the box; uniform in the ball. Not for the 1-norm."""
        from harp.randomness import fork, normal, uniform

        self.refuse_one()
        if self.norm == math.inf:
            return self.project(x + uniform(noise, x, -self.eps, self.eps), x)
        delta = normal(noise, x)
        radius = uniform(fork(noise, 1), x.new_empty(len(x)), 0, 1) ** (1 / x[0].numel())
        return self.project(x + delta * per_point(self.eps * radius / _lengths(delta), x), x)

    def step(self, grad: Tensor, size: float) -> Tensor:
        """The move of norm `size` (or none, where `grad` is 0) that raises a loss of gradient `grad` fastest.

        Not for the 1-norm, where it would be along one pixel; attacks that know better bring steps of their own.
        """
        self.refuse_one()
        if self.norm == math.inf:
            return size * grad.sign()
        # Scaled by the largest entry first: the square of a confident model's 1e-25 would be 0 in float32.
        largest = grad.flatten(1).abs().amax(1)
        scaled = grad / per_point(largest.where(largest > 0, 1), grad)
        return scaled * per_point(size / _lengths(scaled), grad)

    def project(self, adv: Tensor, x: Tensor) -> Tensor:
        """An allowed image for each of `adv`: in the box, and no further than `eps` from `x`, which lies in the box.

        The nearest for the inf-norm and the 1-norm (Croce & Hein, ICML 2021, proposition 2.1). For the 2-norm the ball
        comes first and the box second, which keeps the distance, but may end short of the nearest.
        """
        delta = adv - x
        if self.norm == math.inf:
            delta = delta.clamp(-self.eps, self.eps)
        elif self.norm == 2:
            delta = delta * per_point((self.eps / _lengths(delta)).clamp(max=1), x)
        else:
            delta = shrunk(delta, (self.high - x).where(delta > 0, x - self.low), self.eps)
        return (x + delta).clamp(self.low, self.high)

    def distance(self, adv: Tensor, x: Tensor) -> Tensor:
        """The norm of each image's perturbation, [n]."""
        import torch

        distance: Tensor = torch.linalg.vector_norm((adv - x).flatten(1), ord=self.norm, dim=1)
        return distance

    def excess(self, adv: Tensor, x: Tensor) -> Tensor:
        """How far each image of the batch lies outside what is allowed (0 or rounding error where it is inside)."""
        far = self.distance(adv, x) - self.eps
        out = (self.low - adv).maximum(adv - self.high).flatten(1).amax(1)
        return far.maximum(out).clamp(min=0)

    def refuse_one(self) -> None:
        """Raises `HarpError` for norm 1, for which `start` and `step` are not."""
        if self.norm == 1:
            raise HarpError("plain gradient attacks know norms inf and 2; for norm 1 there are apgd, fab and square")


def exact(eps: float) -> str:
    """`8/255`, `0.031` or `0.5`: the shorter of the ways to write `eps` that are read back as the same float.

    So nothing is rounded: 0.031 and 8/255 stay apart, and so does the float32 next to 8/255. `eps` is finite and at
    least 0; both forms are what `float(Fraction(text))` and recipes read.
    """
    steps = round(255 * eps)
    ways = [repr(float(eps)).removesuffix(".0")]
    if steps / 255 == eps:
        ways.append(f"{steps}/255")
    return min(ways, key=len)


def per_point(values: Tensor, like: Tensor) -> Tensor:
    """`values` [n] in a shape that broadcasts over a batch `like` [n, ...]."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _lengths(delta: Tensor) -> Tensor:
    import torch

    # 1e-12 keeps a zero vector zero instead of dividing 0 by 0.
    lengths: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return lengths.clamp(min=1e-12)


def shrunk(delta: Tensor, room: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest of the perturbations of 1-norm at most `eps` whose entries are no larger than `room` [n, ...].

    `eps` is one number, or one for each point ([n, 1]).
    """
    import torch

    size, room = delta.flatten(1).abs(), room.flatten(1)
    # Entry i of the answer is size - t, cut to [0, room], for one t a point; their total falls with t in straight
    # pieces. Halving finds the piece, to the last bit of t; sorting its ends takes four times as long, and running
    # sums over them are 2e-5 off in float32.
    low, high = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)
    for _ in range(2 - round(math.log2(torch.finfo(size.dtype).eps))):
        middle = (low + high) / 2
        over = _cut(size - middle, room).sum(1, keepdim=True) > eps
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    rest, kept = size - low, _cut(size - low, room)
    falling = ((rest > 0) & (rest < room)).sum(1, keepdim=True).clamp(min=1)
    t = low + (kept.sum(1, keepdim=True) - eps).clamp(min=0) / falling
    return (_cut(size - t, room) * delta.flatten(1).sign()).view_as(delta)


def _cut(size: Tensor, room: Tensor) -> Tensor:
    return size.clamp(min=0).minimum(room)

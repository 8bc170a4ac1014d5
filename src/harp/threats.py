"""What an attacker may do to an image: a ball around it, cut by the box of valid pixels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Threat:
    """The perturbations of norm at most `eps` that leave every pixel in [`low`, `high`].

    `norm` is `math.inf` or 2. `eps` is in the pixels' own unit, so 8/255 for images in [0, 1]; a model that wants
    normalised inputs normalises inside itself. All verbs take batches of shape (n, ...) and work per example.
    Raises `ValueError` for another norm, a negative or non-finite `eps`, or an empty box.
    """

    norm: float = math.inf
    eps: float = 8 / 255
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in (2, math.inf):
            raise ValueError(f"norm: expected inf or 2, got {self.norm!r}")
        if not 0 <= self.eps < math.inf:
            raise ValueError(f"eps: expected a finite number of at least 0, got {self.eps!r}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low!r} and {self.high!r}")

    def start(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """A random point of the ball around each image, inside the box; uniform in the ball for both norms."""
        if self.norm == math.inf:
            delta = torch.empty_like(x).uniform_(-self.eps, self.eps, generator=noise)
        else:
            delta = torch.empty_like(x).normal_(generator=noise)
            radius = torch.rand(len(x), generator=noise, device=x.device) ** (1 / x[0].numel())
            delta = delta * _per_example(self.eps * radius / _lengths(delta), x)
        return self.project(x + delta, x)

    def step(self, grad: Tensor, size: float) -> Tensor:
        """The move of norm `size` (or none, where `grad` is 0) that raises a loss of gradient `grad` fastest."""
        if self.norm == math.inf:
            return size * grad.sign()
        # Scaled by the largest entry first: the square of a confident model's 1e-25 would be 0 in float32.
        largest = grad.flatten(1).abs().amax(1)
        scaled = grad / _per_example(torch.where(largest > 0, largest, torch.ones_like(largest)), grad)
        return scaled * _per_example(size / _lengths(scaled), grad)

    def project(self, adv: Tensor, x: Tensor) -> Tensor:
        """The nearest of the allowed images: in the box, and no further than `eps` from `x`.

        For the 2-norm the ball comes first and the box second, which keeps the distance as `x` lies in the box.
        """
        delta = adv - x
        if self.norm == math.inf:
            delta = delta.clamp(-self.eps, self.eps)
        else:
            delta = delta * _per_example((self.eps / _lengths(delta)).clamp(max=1), x)
        return (x + delta).clamp(self.low, self.high)

    def excess(self, adv: Tensor, x: Tensor) -> Tensor:
        """How far each image of the batch lies outside what is allowed (0 or rounding error where it is inside)."""
        delta = (adv - x).flatten(1)
        far = torch.linalg.vector_norm(delta, ord=self.norm, dim=1) - self.eps
        out = torch.maximum(self.low - adv, adv - self.high).flatten(1).amax(1)
        return torch.maximum(far, out).clamp(min=0)


def _lengths(delta: Tensor) -> Tensor:
    # 1e-12 keeps a zero vector zero instead of dividing 0 by 0.
    lengths: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return lengths.clamp(min=1e-12)


def _per_example(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))

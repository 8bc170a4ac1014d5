"""How far rounding may carry a result from what exact arithmetic gives, whoever computes it.

The standard model (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 2.2 and 3.1): every
operation errs by at most `unit` times its result, so a sum of n products, in whatever order it is made and with or
without fused operations, errs by at most n unit / (1 - n unit) times the sum of their absolute values. It holds for
what a CPU computes in float32 and for the sparse engine, and not for convolutions by Winograd's or Fourier's transform,
which some graphics libraries make: of these the bounds tell what exact arithmetic would give.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

FLOAT32 = 2.0**-24
FLOAT64 = 2.0**-53
OWN = 2.0**-50  # the rounding of bounds themselves: they take several operations of float64 for each of the network's
TINY = 2.0**-125  # below this float32 counts in steps, or flushes to zero
LARGE = 2.0**126  # above this float32 overflows soon


class Interval(NamedTuple):
    """Between which two numbers each number of a value lies: float64 of its shape, twice."""

    low: Tensor
    high: Tensor

    def middle(self) -> tuple[Tensor, Tensor]:
        """A centre, and how far from it the ends lie at most."""
        centre = (self.low + self.high) / 2
        return centre, torch.maximum(self.high - centre, centre - self.low)


@dataclass(frozen=True)
class Rounding:
    """Slack for operations that err by `unit` of their result, bounds in float64 included."""

    unit: float

    def share(self, terms: int) -> float:
        """By how much of the sum of its terms' sizes a sum of so many products may be off; infinite where it is of use
        to nobody."""
        off = (terms + 2) * (self.unit + OWN)
        return off / (1 - off) if off < 0.5 else torch.inf

    def slack(self, size: Tensor, terms: int) -> Tensor:
        """How far sums of so many products may be off, whose sizes sum up to `size`; infinite where they overflow."""
        off = self.share(terms) * size + (terms + 2) * TINY
        return torch.where(size < LARGE, off, torch.inf)

    def widened(self, low: Tensor, high: Tensor, operations: int, more: float = 0.0) -> Interval:
        """Both ends moved out by what so many operations on the result may be off; `more` is added to its size."""
        size = torch.maximum(low.abs(), high.abs()) + more
        off = self.slack(size, operations)
        return Interval(low - off, high + off)

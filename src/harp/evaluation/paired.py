"""Two models, or two attacks, compared on the same points."""

import math
from dataclasses import dataclass

from torch import Tensor

from harp.errors import HarpError
from harp.evaluation.statistics import require_flags, wilson


@dataclass(frozen=True)
class Comparison:
    """Two sets of flags on the same `n` points.

    `b` points only the first got right, `c` only the second. `p`: two-sided, that the two are equally often right.
    `difference`: the first's accuracy less the second's, in [-1, 1], with its 95 % interval.
    """

    b: int
    c: int
    n: int
    p: float
    difference: float
    low: float
    high: float


def mcnemar(first: Tensor, second: Tensor) -> Comparison:
    """How two models' flags, bool [n] for the same points in the same order, differ.

    `p` is McNemar's test by the binomial distribution of b among b + c, exact for every count; without a discordant
    point it is 1. The interval is Newcombe's square-and-add of two Wilson intervals with corrected correlation
    (Statistics in Medicine 17, 1998, 2635-2650, method 10), which has a width even where b = c = 0. The two need
    not agree where p is near 0.05. Raises `HarpError` for flags that are not bool, or not of one length.
    """
    require_flags("first", first)
    require_flags("second", second)
    if first.shape != second.shape:
        raise HarpError(f"expected flags for the same points, got {len(first)} and {len(second)}")
    first, second = first.cpu(), second.cpu()
    both, b, c = (int(flags.sum()) for flags in (first & second, first & ~second, second & ~first))
    n = len(first)
    low, high = _newcombe(both, b, c, n - both - b - c)
    return Comparison(b, c, n, _exact_p(b, c), (b - c) / n, low, high)


def _exact_p(b: int, c: int) -> float:
    """Twice the probability that of b + c tosses of a fair coin no more than min(b, c) are heads, at most 1."""
    tosses, term, tail = b + c, 1, 1
    # In integers: no rounding, and 10,000 tosses take milliseconds.
    for heads in range(min(b, c)):
        term = term * (tosses - heads) // (heads + 1)
        tail += term
    p: float = 2 * tail / 2**tosses
    return min(1.0, p)


def _newcombe(both: int, b: int, c: int, neither: int) -> tuple[float, float]:
    n, difference = both + b + c + neither, (b - c) / (both + b + c + neither)
    (below1, above1), (below2, above2) = _room(both + b, n), _room(both + c, n)
    phi = _correlation(both, b, c, neither)
    down = math.sqrt(max(0.0, below1**2 - 2 * phi * below1 * above2 + above2**2))
    up = math.sqrt(max(0.0, above1**2 - 2 * phi * above1 * below2 + below2**2))
    return max(-1.0, difference - down), min(1.0, difference + up)


def _room(successes: int, n: int) -> tuple[float, float]:
    """How far Wilson's interval reaches below and above the share."""
    low, high = wilson(successes, n)
    return successes / n - low, high - successes / n


def _correlation(both: int, b: int, c: int, neither: int) -> float:
    """Phi of the table, a positive one corrected for continuity; 0 where a margin is empty."""
    margins = (both + b) * (c + neither) * (both + c) * (b + neither)
    if not margins:
        return 0.0
    excess: float = both * neither - b * c
    if excess > 0:
        excess = max(0.0, excess - (both + b + c + neither) / 2)
    return excess / math.sqrt(margins)

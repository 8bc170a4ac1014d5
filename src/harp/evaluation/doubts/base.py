"""What a doubt is, the register of all of them, and when a count is large enough to raise one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from harp.evaluation.doubts.sample import Sample
from harp.evaluation.statistics import wilson
from harp.registry import Registry


@dataclass(frozen=True)
class Doubt:
    """A reason to think a network less robust than its number says.

    `name` is one of `DOUBTS`; `sentence` says what was seen, for a reader; `value` is the quantity it was seen by:
    mostly a share in [0, 1] of the examined points, else what the sentence says.
    """

    name: str
    sentence: str
    value: float


Found = tuple[float, str] | None
"""The value and the sentence of a doubt, or None where there is none."""

DOUBTS: Registry[Callable[[Sample], Found]] = Registry("doubt", "doubts")
"""Name -> check; `DOUBTS.summary(name)` is one line on what it shows."""

# Of 70 honest networks (trained adversarially or naturally, pruned to 5 % or 1 %) none has a point without a gradient
# or with a loss that does not rise, but for one of 120 weights with 2 of 95; behind rounding or a table all are so.
FEW = 0.02


def surely(count: int, of: int, limit: float) -> bool:
    """Whether the share of `count` in `of` is above `limit` with all of its 95 % interval."""
    return of > 0 and wilson(count, of)[0] > limit


def sign_test(ups: int, downs: int) -> float:
    """The chance of `ups` or more heads in `ups + downs` tosses: the p of the exact one-sided sign test."""
    tosses = ups + downs
    return float(sum(math.comb(tosses, k) for k in range(ups, tosses + 1)) / 2**tosses)

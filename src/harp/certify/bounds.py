"""What counts of answers prove about a probability, and that about a radius."""

import math
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.stats import beta, norm

from harp.errors import HarpError

Verdict = bool | None
"""Above the bar, not above it, or not decided yet."""


def lower_bound(right: int, n: int, alpha: float) -> float:
    """The largest probability that `right` of `n` answers leave unlikely to be missed: Clopper and Pearson, one-sided.

    Whatever the true probability is, it lies below with a chance of at most `alpha`.
    """
    if not 0 <= right <= n or n < 1:
        raise HarpError(f"{right} of {n} answers; expected 0 to n of at least 1")
    return 0.0 if right == 0 else float(beta.ppf(alpha, right, n - right + 1))


def radius(chance: float, sigma: float) -> float:
    """How far an image may move in the 2-norm before another class can win, 0 where the chance is at most one half.

    `chance` bounds the class's probability under noise of deviation `sigma` from below (Cohen et al., ICML 2019).
    """
    return 0.0 if chance <= 0.5 else float(sigma * norm.ppf(chance))


def bar(radius: float, sigma: float) -> float:
    """The probability that a class must exceed for the radius to be proved: Phi(radius / sigma)."""
    return float(norm.cdf(radius / sigma))


@dataclass
class Bets:
    """Bets for and against a probability above `bar`, answer by answer, until one has won 1 / `alpha` times its stake.

    If the probability is no more than `bar`, the first wins so much with a chance of at most `alpha`, however long it
    goes on, for its wealth is a supermartingale (Ville, 1939); the second likewise. The stakes are by Krichevsky and
    Trofimov's estimate of the answers so far, held to its own side of the bar (Voracek, 2024).
    """

    bar: float
    alpha: float
    right: int = 0
    n: int = 0
    above: float = 0.0
    below: float = 0.0
    verdict: Verdict = None

    def __post_init__(self) -> None:
        for name, value in (("bar", self.bar), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise HarpError(f"{name} is {value:g}; expected a probability above 0 and below 1")

    def take(self, answers: NDArray[numpy.bool_]) -> int:
        """How many of the answers, bool [t], right or wrong in turn, it took to decide; all, if they do not."""
        if self.verdict is not None or not len(answers):
            return 0
        before = self.right + numpy.concatenate([[0], answers[:-1].cumsum()])
        guess = (before + 0.5) / (self.n + numpy.arange(len(answers)) + 1)
        above = self.above + _gains(numpy.maximum(guess, self.bar), answers, self.bar).cumsum()
        below = self.below + _gains(numpy.minimum(guess, self.bar), answers, self.bar).cumsum()
        won = (above >= -math.log(self.alpha)) | (below >= -math.log(self.alpha))
        last = int(won.argmax()) if won.any() else len(answers) - 1
        self.n += last + 1
        self.right += int(answers[: last + 1].sum())
        self.above, self.below = float(above[last]), float(below[last])
        if won.any():
            self.verdict = bool(above[last] >= -math.log(self.alpha))
        return last + 1


def _gains(guess: NDArray[numpy.float64], answers: NDArray[numpy.bool_], bar: float) -> NDArray[numpy.float64]:
    """The logarithm of what each bet multiplies its stake by."""
    gains: NDArray[numpy.float64] = numpy.log(numpy.where(answers, guess / bar, (1 - guess) / (1 - bar)))
    return gains

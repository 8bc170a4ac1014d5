"""Intervals for measured shares, and for what is measured once per seed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from harp.errors import HarpError

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Estimate:
    """An accuracy in [0, 1] measured on `n` points, with the ends of its 95 % interval."""

    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Spread:
    """What `n` seeds gave: mean, sample deviation, extremes, and the ends of the mean's 95 % interval."""

    mean: float
    std: float
    min: float
    max: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The 95 % score interval (low, high) of a share seen as `successes` of `n` (Wilson, JASA 1927).

    Raises `ValueError` for an empty sample or more successes than trials.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # The share lies inside by definition; rounding must not say otherwise at 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def spread(values: Iterable[float]) -> Spread:
    """Mean and spread of one number per seed, with Student's interval for the mean of all seeds.

    The interval takes the numbers for independent and normal; it speaks of the seeds, not of the finite test set that
    they share. Raises `HarpError` for fewer than two numbers and for one that is not finite.
    """
    numbers = [float(value) for value in values]
    n = len(numbers)
    if n < 2 or not all(map(math.isfinite, numbers)):
        raise HarpError(f"a spread needs at least two finite numbers, one per seed; got {numbers}")
    # Takes a quarter of a second to import, which only a comparison of seeds should cost.
    from scipy.special import stdtrit

    mean = math.fsum(numbers) / n
    std = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Spread(mean, std, min(numbers), max(numbers), mean - half, mean + half, n)


def require_flags(name: str, right: Tensor) -> None:
    """Raises `HarpError` unless `right` is a bool tensor [n] with n above 0."""
    if right.dtype != torch.bool or right.ndim != 1 or not len(right):
        raise HarpError(f"{name}: expected bool flags [n], n > 0, got {right.dtype} of shape {list(right.shape)}")

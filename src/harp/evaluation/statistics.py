"""Intervals for measured shares."""

import math

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


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

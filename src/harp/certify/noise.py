"""Gaussian noise on the grid of 8-bit images, in whole numbers, so that no rounding stands between it and a proof.

A certificate of randomised smoothing is about exact probabilities; noise in floating point has others, and images have
been made that use the difference (Jin et al., 2022). Here images are whole numbers of 1/255 and so is the noise: the
rounding of a Gaussian to that grid, which whoever answers may do for himself, so that the theorem holds for it as it
does for the Gaussian. Probabilities are whole numbers of 2^-60, from arithmetic of 50 digits.
"""

import math
from functools import cache

import mpmath
import torch
from torch import Tensor

from harp.errors import HarpError
from harp.randomness import seed_of

BITS = 60
DIGITS = 50
LEVELS = 255


@cache
def thresholds(sigma: float) -> tuple[int, Tensor]:
    """The largest step k of the noise, and for steps -k to k how many of 2^60 draws end at or below each, rounded down.

    Steps are of 1/255; k is the first beyond which less than one draw would lie. `sigma` is in units of pixels in
    [0, 1]. int64 [2 k + 1]; the last is 2^60. Raises `HarpError` for a sigma that is not above 1/1000 and below 10.
    """
    if not 1e-3 < sigma < 10:
        raise HarpError(f"sigma is {sigma:g}; expected above 0.001 and below 10, in units of pixels from 0 to 1")
    with mpmath.workdps(DIGITS):
        scale = mpmath.mpf(sigma) * LEVELS
        reach = math.ceil(float(scale) * 9.2) + 1  # beyond 9.2 deviations lies less than 2^-63
        half = mpmath.mpf(1) / 2
        shares = [mpmath.ncdf((step + half) / scale) for step in range(-reach, reach)]
        below = [int(mpmath.floor(share * 2**BITS)) for share in shares]
    return reach, torch.tensor([*below, 2**BITS], dtype=torch.int64)


def drawn(shape: tuple[int, ...], sigma: float, seed: int, *names: str | int) -> Tensor:
    """Noise in steps of 1/255, int32 of this shape: that of the draw called `names`, the same on every machine.

    Each number is the place of 60 random bits among `thresholds`; how far these are from a rounded Gaussian is `slack`.
    """
    reach, below = thresholds(sigma)
    noise = torch.Generator("cpu").manual_seed(seed_of(seed, *names))
    bits = torch.randint(0, 2**BITS, shape, generator=noise, dtype=torch.int64)
    return (torch.searchsorted(below, bits, right=True) - reach).to(torch.int32)


def slack(sigma: float, pixels: int) -> float:
    """By how much a chance under `drawn` noise on so many pixels may be above that under a rounded Gaussian.

    Each threshold is rounded down by less than one of 2^60 draws, so a pixel's noise is another with a chance below
    their number times 2^-60; a proof takes the sum over pixels off what it counted.
    """
    return pixels * len(thresholds(sigma)[1]) * 2.0**-BITS


def noisy(images: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Images under noise, float32: whole numbers of 1/255 from -k to k + 1, beyond which they are cut off.

    k = max(1, floor(6 sigma)), so that what the network is asked has a range. `images` uint8 [n, ...], `noise` int32
    [n, ...]. Numbers below 2^24 are exact in float32, and so is what they are divided by.
    """
    reach = max(1, math.floor(6 * sigma)) * LEVELS
    return (images.to(torch.int32) + noise).clamp(-reach, reach + LEVELS).float() / LEVELS

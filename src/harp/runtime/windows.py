"""Windows of convolutions and pools as operators spell them, and how far from an image they may look."""

from typing import Any

from harp.runtime.layers import Shape, Window

# Taps of a convolution, each of which is planned: the widest that networks have are 51 x 51 (SLaK).
TAPS = 2**12


def near(window: Window, given: Shape) -> bool:
    """Whether a window stays near the image, which only a harmful file's does not: planes hold the zeros it reads."""
    farthest = 4 * max(*given[1:], 16)
    reach = [d * (k - 1) for k, d in zip(window.kernel, window.dilation, strict=True)]
    if min(*window.stride, *window.dilation) < 1 or min(window.padding) < 0:
        return False  # which is no window, as PyTorch will tell
    few = max(window.stride) < 1 << 15 and window.kernel[0] * window.kernel[1] <= TAPS
    return few and max(*reach, *window.padding) <= farthest


def pair(value: Any) -> tuple[int, int]:
    """One number for both directions, or two: as two."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values if len(values) == 2 else (values[0], values[0])

"""The windows of pictures that are cut out and resized."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Of the drawn windows' shapes against that asked for (Szegedy et al., 2015, section 6).
STRETCH = 4 / 3

Range = tuple[float, float]


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels within a picture."""

    top: int
    left: int
    height: int
    width: int


def centred(height: int, width: int, size: tuple[int, int], share: float = 1.0) -> Window:
    """The largest window of the shape `size` (h, w) in the middle of the picture, its sides times `share`."""
    scale = share * min(height / size[0], width / size[1])
    high, wide = _side(scale * size[0], height), _side(scale * size[1], width)
    return Window((height - high) // 2, (width - wide) // 2, high, wide)


def drawn(height: int, width: int, size: tuple[int, int], area: Range, draw: Sequence[float]) -> Window:
    """A window somewhere in the picture, which four numbers in [0, 1) decide: `draw`.

    Its share of the picture's area is uniform in `area`; its shape is that of `size` (h, w) times a factor between
    3/4 and 4/3 whose logarithm is uniform; a side that would be longer than the picture's is the picture's. Every
    place is as likely.
    """
    share = area[0] + (area[1] - area[0]) * draw[0]
    shape = size[1] / size[0] * STRETCH ** (2 * draw[1] - 1)
    pixels = share * height * width
    high, wide = _side(math.sqrt(pixels / shape), height), _side(math.sqrt(pixels * shape), width)
    return Window(int(draw[2] * (height - high + 1)), int(draw[3] * (width - wide + 1)), high, wide)


def _side(length: float, most: int) -> int:
    return max(1, min(most, round(length)))

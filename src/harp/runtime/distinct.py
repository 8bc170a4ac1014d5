"""The different ones among numbers; numpy's own `unique` imports numpy.ma, a third of the time to load a network."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def distinct(numbers: Ints) -> tuple[Ints, Ints]:
    """The different numbers, ascending, and the place of each of `numbers` [k] among them."""
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    new = np.ones(len(ascending), bool)
    new[1:] = ascending[1:] != ascending[:-1]
    place = np.empty(len(numbers), np.int64)
    place[order] = np.cumsum(new) - 1
    return ascending[new], place

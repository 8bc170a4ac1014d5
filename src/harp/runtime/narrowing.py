"""Numbers handed to C, which has fewer bits for them, and memory that is asked for: within bounds, or refused."""

from ctypes import Structure, c_int32
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harp.errors import HarpError

# Numbers of one arena: at least so many (64 MB), and so many more for each weight that is not zero. ResNet-50 and
# ConvNeXt take 2**23 at 224 pixels, whatever is left of them; what asks for more with few weights is a harmful file.
FLOATS, PER_WEIGHT = 2**24, 2**7
# Layers of one segment that read by lists: planning takes a millisecond each.
LAYERS = 2**10


class BeyondError(HarpError):
    """A part of a network is larger than the engine takes; PyTorch runs it."""


def narrow(values: NDArray[Any], kind: Any = np.int32) -> NDArray[Any]:
    """The whole numbers in a kind that C reads; raises `BeyondError` where one does not fit."""
    most = np.iinfo(kind)
    for value in (values.min(initial=0), values.max(initial=0)):
        if not most.min <= value <= most.max:
            raise BeyondError(f"the engine counts to {most.max:,} here, and {int(value):,} is beyond that")
    return values.astype(kind)


def filled(kind: type[Structure], /, **values: Any) -> Any:
    """The structure of these fields; raises `BeyondError` for a number that a field of 32 bits would cut short."""
    for field in kind._fields_:
        value = values.get(field[0], 0)
        if field[1] is c_int32 and not -(2**31) <= value < 2**31:
            raise BeyondError(f"{kind.__name__}.{field[0]} would be {value:,}; the engine counts in 32 bits")
    return kind(**values)


def check_room(floats: int, weights: int, what: str) -> None:
    """Raises `BeyondError` for more numbers than an arena of so many weights may have."""
    most = FLOATS + PER_WEIGHT * weights
    if floats > most:
        raise BeyondError(f"{what} would take {floats:,} numbers; the engine takes {most:,}")

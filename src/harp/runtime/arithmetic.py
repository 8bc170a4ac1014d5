"""A value and numbers, added, subtracted, multiplied or divided, as the value times a number plus a number."""

import numpy as np

from harp.graph import Array

_KINDS = {f"{name}.{kind}" for name in ("add", "sub", "mul", "div") for kind in ("Tensor", "Scalar")}
# Between two values, or a value and numbers for all or each of its channels.
ARITHMETIC = _KINDS | {"rsub.Scalar"}


def scale_and_shift(op: str, numbers: Array, alpha: float, first: bool) -> tuple[Array, Array] | None:
    """What `op` makes of a value x and `numbers` as scale x + shift; None for numbers over x.

    `first`: the numbers stand before x; `alpha` is what the second operand of a sum or difference is multiplied by.
    """
    one, zero = np.ones(1), np.zeros(1)
    name = op.partition(".")[0]
    if name == "rsub":  # rsub(x, c) is c - alpha x
        name, first = "sub", True
    if name == "add":
        return (one * alpha, numbers) if first else (one, numbers * alpha)
    if name == "sub":
        return (-one * alpha, numbers) if first else (one, -numbers * alpha)
    if name == "mul":
        return numbers, zero
    with np.errstate(all="ignore"):  # 1 over 0 is the caller's to see
        return None if first else (1 / numbers, zero)

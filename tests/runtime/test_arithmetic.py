"""Scale and shift say the same as the operator."""

import numpy as np
import pytest

from harp.runtime.arithmetic import ARITHMETIC, scale_and_shift

MEANT = {
    "add": lambda a, b, alpha: a + alpha * b,
    "sub": lambda a, b, alpha: a - alpha * b,
    "rsub": lambda a, b, alpha: b - alpha * a,
    "mul": lambda a, b, alpha: a * b,
    "div": lambda a, b, alpha: a / b,
}


# The value of rsub always comes first.
CASES = [(op, first) for op in sorted(ARITHMETIC) for first in (False, True) if (op, first) != ("rsub.Scalar", True)]


@pytest.mark.parametrize(("op", "first"), CASES)
def test_a_value_and_numbers(op: str, first: bool):
    x, numbers = np.array([1.0, -2.0]), np.array([4.0, 0.5])
    found = scale_and_shift(op, numbers, 3.0, first)
    if first and op.startswith("div"):
        assert found is None
        return
    assert found is not None
    scale, shift = found
    meant = MEANT[op.partition(".")[0]](*((numbers, x) if first else (x, numbers)), 3.0)
    assert np.array_equal(np.broadcast_to(scale * x + shift, 2), meant)

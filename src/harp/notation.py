"""Numbers as people write them, norms by their names, sizes as fractions of 255; and lines as wide as a terminal."""

import math
import re
import textwrap
from functools import partial

_ORDERS = {"inf": math.inf, "2": 2.0, "1": 1.0}


def order_of(norm: float | str) -> float:
    """The order of a norm that is given as a number, or as people write it: "inf", "Linf", "L-inf", "l2", "1".

    Raises `ValueError` for one that is not inf, 2 or 1.
    """
    written = str(norm).lower().removeprefix("l").removeprefix("-").removesuffix(".0")
    if written not in _ORDERS or isinstance(norm, bool):
        raise ValueError(f"norm: expected inf, 2 or 1, got {norm!r}")
    return _ORDERS[written]


def fraction(text: str) -> float:
    """The number that is written "8/255"; raises `ValueError` for any other text."""
    from fractions import Fraction

    above, _, below = text.replace(" ", "").partition("/")
    if re.fullmatch(r"-?\d+(\.\d+)?", above) is None or re.fullmatch(r"\d+", below) is None or not Fraction(below):
        raise ValueError("expected a number or a fraction such as 8/255")
    return float(Fraction(above) / Fraction(below))


def fitted(text: str, width: int, indent: str = "") -> str:
    """The lines of the text broken between words to fit a terminal of so many columns; a longer word stays whole.

    What a broken line goes on with begins with `indent`.
    """
    wrap = partial(textwrap.wrap, width=width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join("\n".join(wrap(line)) if len(line) > width else line for line in text.split("\n"))

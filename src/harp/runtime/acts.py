"""The activations the engine has, by the operator that asks for them."""

import math
from collections.abc import Callable
from typing import Any

from harp.runtime.layers import Act

INFINITY = math.inf
ACTS: dict[str, Callable[[tuple[Any, ...]], Act | None]] = {
    "relu": lambda a: Act("clamp", 0, INFINITY),
    "relu6": lambda a: Act("clamp", 0, 6),
    "hardtanh": lambda a: Act("clamp", a[1], a[2]),
    "clamp": lambda a: Act("clamp", -INFINITY if a[1] is None else a[1], INFINITY if a[2] is None else a[2]),
    "clamp_min": lambda a: Act("clamp", a[1], INFINITY),
    "leaky_relu": lambda a: Act("leaky", a[1]),
    "elu": lambda a: Act("elu", a[1]) if a[2] == a[3] == 1 else None,
    "silu": lambda a: Act("silu"),
    "gelu": lambda a: Act("gelu_tanh" if a[1] == "tanh" else "gelu"),
    "hardswish": lambda a: Act("hardswish"),
    "sigmoid": lambda a: Act("sigmoid"),
    "hardsigmoid": lambda a: Act("hardsigmoid"),
    "tanh": lambda a: Act("tanh"),
}

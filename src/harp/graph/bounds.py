"""Numbers among an operator's arguments that PyTorch takes at their word, and should not from a file."""

import math
from typing import Any

import numpy as np

from harp.errors import HarpError
from harp.graph.ir import Node, Ref, Value
from harp.graph.operators import operator
from harp.graph.rules import Blank

LARGEST = float(np.finfo(np.float32).max)


def check_floats(node: Node) -> None:
    """Passes a node whose numbers are floats that float32 holds, or infinite; else raises `HarpError` naming it."""
    for value in _floats(node.args):
        if math.isnan(value) or LARGEST < abs(value) < math.inf:
            raise HarpError(f"node {node.name!r}: {node.op} takes no {value}; expected numbers that float32 holds")


def _floats(value: Value) -> list[float]:
    if isinstance(value, tuple):
        return [number for part in value for number in _floats(part)]
    return [value] if isinstance(value, float) else []


def check_scales(node: Node, values: dict[str, Any], made: Any) -> None:
    """Passes all but a resizing by other factors than its sizes have, by which PyTorch would read beyond the image.

    A factor s from n to m pixels is believed where m is s n rounded, up or down. Raises `HarpError`.
    """
    if "upsample" not in node.op or not isinstance(made, Blank):
        return
    named = dict(zip((p.name for p in operator(node.op).parameters), node.args, strict=True))
    given = [named.get(name) for name in ("scales_h", "scales_w")] if "scales_h" in named else named["scale_factors"]
    source = next(values[arg.name] for arg in node.args if isinstance(arg, Ref))
    sizes = list(zip(source.shape[2:], made.shape[2:], strict=False))
    for factor, (n, m) in zip(given or (), sizes, strict=False):
        if factor is not None and not (m - 1 < factor * n < m + 1):
            raise HarpError(f"node {node.name!r}: {node.op} takes no factor {factor} from {n} to {m} pixels")

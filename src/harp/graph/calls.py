"""The operators of graphs as calls of PyTorch, and the schemas it has for them.

python -m harp.graph.calls > src/harp/graph/schemas.json
"""

import json
import operator as python
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from harp.errors import HarpError
from harp.graph.operators import DTYPES, FORMATS, INTEGERS, LAYOUTS, OPERATORS

# What stands for itself in a graph's arguments, by its name there.
CONSTANTS: dict[str, Any] = {name: getattr(torch, name) for name in sorted(DTYPES | LAYOUTS | FORMATS)}


@cache
def call_of(name: str) -> Callable[..., Any]:
    """What runs the operator of that name; raises `HarpError` where this torch has none."""
    if name == "getitem":
        return python.getitem
    # A layout that allows a view with one device or torch may not with another; the numbers are the same.
    call: Callable[..., Any] = _overload("reshape" if name == "view" else name)
    return call


def _overload(name: str) -> Any:
    base, _, overload = INTEGERS.get(name, name).partition(".")
    try:
        return getattr(getattr(torch.ops.aten, base), overload or "default")
    except AttributeError:
        raise HarpError(f"operator {name!r} is unknown to this torch ({torch.__version__})") from None


def schemas() -> dict[str, Any]:
    """What schemas.json holds, as this torch says it."""
    found = {}
    for name in sorted(OPERATORS - {"getitem"}):
        schema = _overload(name)._schema
        returned = [str(value.real_type) for value in schema.returns]
        kind = returned[0] if len(returned) == 1 and returned[0] in ("Tensor", "int") else "Tensors"
        found[name] = [kind, [_argument(argument) for argument in schema.arguments]]
    return found


def _argument(argument: Any) -> list[Any]:
    given, kind = argument.has_default_value(), str(argument.real_type)
    default = argument.default_value if given else None
    if "ScalarType" in kind or "MemoryFormat" in kind or "Layout" in kind:
        default = None  # enums by number; none of the operators has another default than None
    return [argument.name, kind, argument.kwarg_only, not given, default]


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(schema)}" for name, schema in schemas().items())
    print("{", ",\n".join(lines), "}", sep="\n")

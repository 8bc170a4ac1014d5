"""Operator graphs as JSON values, and back; the grammar stands in docs/format.md."""

import math
from collections.abc import Mapping
from math import prod
from typing import Any

from harp.errors import HarpError
from harp.graph import Array, ArrayGraph, Node, Outline, Ref, SparseArray, Value
from harp.package.codec import DTYPES, Coding, Entry
from harp.package.gaps import Code
from harp.package.strict import record, short, whole

LARGEST = 2**48  # of a shape's product; far below where int64 positions end
RANK = 16
_CODE = {"count": int, "low": int, "high": int}
_NARROW = ("float16", "bfloat16", "int8")


def graph_value(graph: Outline) -> dict[str, Any]:
    """The graph without its tensors."""
    return {
        "input": graph.input,
        "shape": list(graph.shape),
        "batch": graph.batch,
        "nodes": [[node.name, node.op, [_written(arg) for arg in node.args]] for node in graph.nodes],
        "output": graph.output,
    }


def graph_of(value: Any, tensors: Mapping[str, Array | SparseArray]) -> ArrayGraph:
    """The graph that `graph_value` made; `HarpError` where it is not one. Names and operators are not checked."""
    kinds = {"input": str, "shape": list, "nodes": list, "output": str}
    batch = value.get("batch") if type(value) is dict else None
    found = record(value, "the graph", {**kinds, "batch": type(batch)})
    if batch is not None:
        whole([batch], "batch", 1, 2**20)
    shape, nodes = _shape(found["shape"], "the input"), tuple(_node(part) for part in found["nodes"])
    return ArrayGraph(found["input"], shape, nodes, found["output"], tensors, batch)


def entry_value(entry: Entry) -> dict[str, Any]:
    """The entry as an object; what is usual is left out."""
    value: dict[str, Any] = {"name": entry.name, "dtype": entry.dtype, "shape": list(entry.shape)}
    if entry.coding.stored != entry.dtype:
        value["stored"] = entry.coding.stored
    value |= _code_value(entry.coding)
    if entry.scales is not None:
        value |= {"axis": entry.axis, "scales": _code_value(entry.scales)}
    return value


def entry_of(value: Any) -> Entry:
    """The entry that `entry_value` made; `HarpError` where it is not one."""
    kinds = {"name": str, "dtype": str, "shape": list}
    found = record(value, "a tensor", kinds, {"stored": str, "sparse": dict, "axis": int, "scales": dict})
    what, dtype = f"the tensor {short(found['name'])}", found["dtype"]
    shape, stored, scales = _shape(found["shape"], what), found.get("stored", dtype), found.get("scales")
    if dtype not in DTYPES or not (stored == dtype or (dtype == "float32" and stored in _NARROW)):
        raise HarpError(f"{what} cannot be {short(dtype)} stored as {short(stored)}")
    scaled = dtype == "float32" and stored == "int8"
    if (scales is not None) != scaled or ("axis" in found) != scaled:
        raise HarpError(f"{what}: axis and scales belong to float32 stored as int8, and to nothing else")
    if not scaled:
        return Entry(found["name"], dtype, shape, _coding(found, stored, what))
    axis, *_ = whole([found["axis"]], f"the axis of {what}", 0, len(shape) - 1)
    record(scales, f"the scales of {what}", {}, {"sparse": dict})
    return Entry(found["name"], dtype, shape, _coding(found, stored, what), axis, _coding(scales, "float32", what))


def _code_value(coding: Coding) -> dict[str, Any]:
    return {} if coding.code is None else {"sparse": vars(coding.code)}


def _coding(value: Any, stored: str, what: str) -> Coding:
    if "sparse" not in value:
        return Coding(stored)
    if stored not in ("float64", "float32", *_NARROW):
        raise HarpError(f"{what}: numbers of dtype {stored} are never stored sparse")
    sparse = record(value["sparse"], f"the index of {what}", _CODE)
    return Coding(stored, Code(*whole((sparse[key] for key in _CODE), f"the index of {what}", 0, LARGEST)))


def _shape(value: Any, what: str) -> tuple[int, ...]:
    shape = whole(value, f"the shape of {what}", 0, LARGEST)
    # Zeros would hide other lengths, which strides are still computed from.
    if len(shape) > RANK or prod(max(1, length) for length in shape) > LARGEST:
        raise HarpError(f"{what} is too large: {short(list(shape))}")
    return shape


def _node(value: Any) -> Node:
    if type(value) is not list or [type(part) for part in value] != [str, str, list]:
        raise HarpError(f"a node: expected [name, operator, arguments], found {short(value)}")
    name, op, args = value
    return Node(name, op, tuple(_read(arg) for arg in args))


def _written(value: Value) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, tuple):
        return [_written(part) for part in value]
    if isinstance(value, float) and math.isinf(value):
        return {"float": repr(value)}
    if value is None or (type(value) in (bool, int, float, str) and value == value):
        return value
    raise HarpError(f"an argument of a node is {short(value)}, which a package cannot hold")


def _read(value: Any) -> Value:
    if type(value) is list:
        return tuple(_read(part) for part in value)
    if type(value) is int:
        return whole([value], "an argument", -(2**63), 2**63 - 1)[0]
    if type(value) is not dict:
        return value
    found = record(value, "an argument", {}, {"ref": str, "float": str})
    if found.keys() == {"ref"}:
        return Ref(found["ref"])
    if found.keys() == {"float"} and found["float"] in ("inf", "-inf"):
        return float(found["float"])
    raise HarpError(f"an argument: expected a reference or inf, -inf, found {short(value)}")

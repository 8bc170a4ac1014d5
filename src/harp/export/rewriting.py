"""Small steps that every rewriting of a graph takes."""

from collections.abc import Container, Mapping
from dataclasses import replace

from harp.graph import Node, Ref, Value


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node, reading other values where `names` says so."""
    return replace(node, args=_replaced(node.args, names))


def _replaced(value: Value, names: Mapping[str, str]) -> Value:
    if isinstance(value, Ref):
        return Ref(names.get(value.name, value.name))
    return tuple(_replaced(part, names) for part in value) if isinstance(value, tuple) else value


def bias_name(weight: str, node: Node, taken: Container[str]) -> str:
    """What a bias is called that a layer did not have: `conv.bias` beside `conv.weight`."""
    beside = f"{weight.removesuffix('.weight')}.bias"
    return f"{node.name}.new.bias" if beside in taken else beside

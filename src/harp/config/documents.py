"""YAML as plain values, within bounds: what a few lines can stand for is counted before it is made."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

LONGEST, MOST, DEEPEST = 100_000, 10_000, 10  # a recipe has some 5,000 characters, 200 values and three levels
_TOO_MANY = f"it stands for more than {MOST:,} values"
_REFUSED = (ValueError, RecursionError, OverflowError, yaml.YAMLError)  # numbers of thousands of digits, among others


def read_yaml(path: Path) -> Any:
    """The value that a YAML file holds; errors as by `parse_yaml`, and `ValueError` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(4 * LONGEST + 1)  # a character takes four bytes at most
    except OSError as error:
        raise ValueError((error.strerror or str(error)).lower()) from None
    return parse_yaml(data.decode())


def parse_yaml(text: str) -> Any:
    """The value that YAML `text` stands for: plain values, no setting given twice.

    Raises `ValueError`, in one line, for a text of more than 100,000 characters, for more than 10,000 values or 10
    levels of them, what `*name` stands for counted each time, and for what is no YAML.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST:,} characters")
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a safe loader, made stricter
    except _REFUSED as error:
        raise ValueError(" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    """Plain values; a setting is given once, and settings lie no deeper and are no more than a recipe's can be."""

    depth = count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth == DEEPEST:
            raise yaml.YAMLError(f"settings lie deeper than {DEEPEST} levels")
        if self.count == MOST:
            raise yaml.YAMLError(_TOO_MANY)
        self.depth += 1
        self.count += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if self.depth == 0 and node is not None:
            _measure(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := sorted(name for name, times in names.items() if times > 1):
            raise yaml.YAMLError(f"{twice[0]!r} is given twice in line {node.start_mark.line + 1} and below")
        return super().construct_mapping(node, deep)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values `node` stands for, and on how many levels; raises `YAMLError` for more than a recipe may have."""
    if isinstance(node, yaml.ScalarNode):
        return 1, 1
    if id(node) not in known:
        known[id(node)] = MOST, DEEPEST  # until it is known: what holds itself is endless
        pairs = isinstance(node, yaml.MappingNode)
        parts = [_measure(part, known) for item in node.value for part in (item if pairs else (item,))]
        known[id(node)] = 1 + sum(count for count, _ in parts), 1 + max((depth for _, depth in parts), default=0)
    count, depth = known[id(node)]
    if count > MOST:
        raise yaml.YAMLError(_TOO_MANY)
    if depth > DEEPEST:
        raise yaml.YAMLError(f"settings lie deeper than {DEEPEST} levels")
    return count, depth

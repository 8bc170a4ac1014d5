"""What a graph asks for: memory for the values that are needed at one time, and work; by shapes alone."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from harp.errors import HarpError
from harp.graph.ir import Node, Outline, Ref
from harp.graph.rules import Blank

# Bytes of the values that are needed at one time: 128 MB, and 512 more for each number the graph stores, for every
# image that it takes at once (up to 64). ResNet-50 and ConvNeXt need some 10 MB an image at 224 pixels.
BYTES, BYTES_PER_NUMBER, TOGETHER = 2**27, 2**9, 64
# Multiply-adds of an image, a third of a second, and so many more for each number the graph stores; VGG16 at 224 pixels
# takes 2**34 and stores 2**15 numbers where 0.01 % of its weights are left.
WORK, WORK_PER_NUMBER = 2**33, 2**19
MOVED = 32  # multiply-adds that reading or writing a number costs
WIDE = 2**10  # taps of a kernel: 32 x 32
PARTS = 10_000  # tensors that one value, and of those that all values, may be split into


class Toll:
    """Adds up what a graph's values take, in the order they are made; refuses what is beyond reason."""

    def __init__(self, graph: Outline, stored: int, batch: int):
        self._bytes = BYTES + BYTES_PER_NUMBER * stored * min(batch, TOGETHER)
        self._work = (WORK + WORK_PER_NUMBER * stored) * min(batch, TOGETHER)
        self._last = {name: node.name for node in graph.nodes for name in node.refs()}
        self._tensors = graph.tensors
        self._values: dict[str, Any] = {}
        self._live = self._done = self._parts = 0

    def begin(self, name: str, value: Any) -> None:
        """A tensor of the graph, or its input."""
        self._values[name] = value
        if name not in self._tensors:
            self._live += _bytes(value)

    def add(self, node: Node, value: Any) -> None:
        """What a node makes; raises `HarpError` that names it where memory or work are too much."""
        self._values[node.name] = value
        self._parts += sum(1 for _ in _tensors(value))
        if self._parts - len(self._values) > PARTS:
            raise HarpError(f"the graph's values are split into more than {PARTS} parts, {node.name!r} among them")
        self._live += _bytes(value)
        if self._live > self._bytes:
            raise HarpError(f"at {node.name!r} values of {self._live:,} bytes are needed; expected {self._bytes:,}")
        self._done += _work(node, value, self._values)
        if self._done > self._work:
            raise HarpError(
                f"up to {node.name!r} the graph takes {self._done:,} multiply-adds; expected at most {self._work:,}"
            )
        for name in dict.fromkeys(node.refs()):
            if self._last[name] == node.name and name not in self._tensors:
                self._live -= _bytes(self._values.pop(name))


def _tensors(value: Any) -> Iterator[Blank]:
    for part in value if isinstance(value, tuple | list) else (value,):
        if isinstance(part, Blank):
            yield part


def _bytes(value: Any) -> int:
    return sum(part.bytes for part in _tensors(value))


def _numel(value: Any) -> int:
    return sum(part.size for part in _tensors(value))


def _work(node: Node, made: Any, values: dict[str, Any]) -> int:
    """Multiply-adds of a node, or what its reading and writing is worth."""
    args = [values.get(arg.name) if isinstance(arg, Ref) else arg for arg in node.args]
    moved = _numel(made) + sum(_numel(values[name]) for name in node.refs() if name in values)
    rule = _RULES.get(node.op.split(".")[0])
    return MOVED * moved + (rule(args, _numel(made)) if rule else 0)


def _transposed(args: Any, _: int) -> int:
    return int(_numel(args[0]) * math.prod(args[1].shape[1:]))


def _pool(args: Any, made: int) -> int:
    return int(MOVED * made * math.prod(args[1]))


def _einsum(args: Any, made: int) -> int:
    """As many as the indices have combinations."""
    sizes: dict[str, int] = {}
    for word, part in zip(args[0].replace(" ", "").split("->")[0].split(","), args[1], strict=False):
        shape = part.shape if isinstance(part, Blank) else ()
        sizes |= dict(zip(word, shape, strict=False)) if "." not in word else {word: _numel(part)}
    return max(made, math.prod(sizes.values()))


def _convolution(args: Any, made: int) -> int:
    """PyTorch has no quick kernel for windows wider than networks have, such as 65 x 65."""
    slow = MOVED if math.prod(args[1].shape[2:]) > WIDE else 1
    return int(slow * made * math.prod(args[1].shape[1:]))


_RULES: dict[str, Callable[[Any, int], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("matmul", "mm", "bmm"), lambda args, made: made * args[0].shape[-1]),
    **dict.fromkeys(("addmm", "baddbmm"), lambda args, made: made * args[1].shape[-1]),
    **dict.fromkeys([f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)], _pool),
    "max_pool2d_with_indices": _pool,
    "linear": lambda args, made: made * args[1].shape[-1],
    "scaled_dot_product_attention": lambda args, made: 2 * _numel(args[0]) * args[1].shape[-2],
    "einsum": _einsum,
}

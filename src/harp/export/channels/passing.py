"""Operators that pass channels on, one by one, and those that do not."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harp.export.channels.rule import Rule, source
from harp.export.channels.state import State
from harp.graph import Node, Ref, Value
from harp.graph.operators import CONSTANTS, operator

# Of finite numbers they make finite numbers: a channel that nobody reads may be computed from zeros.
_FUNCTIONS = """
relu relu6 hardtanh leaky_relu elu selu celu silu gelu sigmoid hardsigmoid hardswish tanh softplus prelu mish hardshrink
softshrink threshold log_sigmoid clamp neg abs square clone batch_norm maximum minimum
add.Scalar sub.Scalar mul.Scalar div.Scalar rsub.Scalar add.Tensor sub.Tensor mul.Tensor div.Tensor
"""
_POOLS = """
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d mean.dim
"""
_RESHAPES = "view reshape flatten.using_ints unsqueeze squeeze squeeze.dim squeeze.dims"
FUNCTIONS, POOLS, RESHAPES = (frozenset(names.split()) for names in (_FUNCTIONS, _POOLS, _RESHAPES))
_ALONG_ONE = {"batch_norm", "prelu"}  # their tensors [C] go along axis 1


class Channelwise(Rule):
    """A function of each channel, or of the same channel of several values: activations, batch norms, sums, gates."""

    def __init__(self, node: Node, state: State):
        super().__init__(node, state)
        self.axis = state.channels[self.sources[0]].axis
        self.count = state.channels[self.sources[0]].count

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        found = [state.channels[name] for name in node.refs() if name in state.channels]
        if node.op not in FUNCTIONS or not found:
            return False
        shape = state.shapes[node.name]
        alike = {(c.axis, c.count, len(state.shapes[n])) for n, c in state.channels.items() if n in node.refs()}
        axis = found[0].axis
        tables = [name for name in node.refs() if state.constant(name)]
        known = all(name in state.channels or state.constant(name) for name in node.refs())
        along = all(_along(state.shapes[name], shape, 1 if node.op in _ALONG_ONE else axis, node) for name in tables)
        divided = node.op == "div.Tensor" and not state.constant(node.args[1].name)
        return (
            alike == {(axis, shape[axis], len(shape))}
            and known
            and along
            and not divided
            and (axis == 1 or node.op not in _ALONG_ONE)
        )

    def forward(self, state: State) -> None:
        inner = [state.channels[name] for name in self.sources]
        for other in inner[1:]:
            state.tie(inner[0].slots, other.slots)
        constant = torch.stack([c.constant for c in inner]).all(0)
        if self.node.op == "mul.Tensor":
            constant = constant | torch.stack([c.constant & (c.value == 0) for c in inner]).any(0)
        state.follow(self.node.name, inner[0], self.axis, constant, self._computed(state))

    def _computed(self, state: State) -> Tensor:
        """The operator on constants: tensors that have one position and all channels, float64."""
        wide = [1] * len(state.shapes[self.node.name])
        wide[self.axis] = -1

        def filled(value: Value) -> Any:
            if isinstance(value, Ref):
                known = state.channels.get(value.name)
                return state.double(value.name) if known is None else known.value.view(wide)
            return CONSTANTS.get(value, value) if isinstance(value, str) else value

        kind = operator(self.node.op)
        given = [(p, filled(value)) for p, value in zip(kind.parameters, self.node.args, strict=True)]
        keyword = {p.name: value for p, value in given if p.keyword}
        made: Tensor = kind.call(*(value for p, value in given if not p.keyword), **keyword)
        return made.reshape(-1)

    def backward(self, state: State) -> None:
        for name in self.sources:
            state.need(name, state.reads(self.node.name))

    def rewritten(self, state: State) -> Node | None:
        kept = state.kept(self.node.name)
        node = replace(self.node, args=tuple(self._cut(value, state, kept) for value in self.node.args))
        if self.node.op != "add.Tensor" or len(self.sources) != 2:
            return node
        return self._sum(node, state, kept)

    def _sum(self, node: Node, state: State, kept: Tensor) -> Node | None:
        """A sum of two values of which one may be constant in all channels that stay, or even zero."""
        for place in (0, 1):
            name, other = (node.args[i].name for i in (place, 1 - place))
            fixed = state.channels[other].constant | ~state.reads(other)
            if not fixed[kept].all() or state.shapes[name] != state.shapes[node.name] or node.args[2] != 1:
                continue
            value = (state.channels[other].value * state.reads(other))[kept]
            if value.any():
                table = state.table(
                    f"{node.name}.constant", value.view(-1, *[1] * (len(state.shapes[name]) - self.axis - 1))
                )
                return replace(node, args=(Ref(name), table, 1))
            state.instead[node.name] = name
            return None
        return node

    def _cut(self, value: Value, state: State, kept: Tensor) -> Value:
        if not isinstance(value, Ref) or not state.constant(value.name):
            return value
        shape = state.shapes[value.name]
        axis = 0 if self.node.op in _ALONG_ONE else self.axis - len(state.shapes[self.node.name]) + len(shape)
        if axis < 0 or shape[axis] != self.count or kept.all():
            return value
        return state.store(self.node, value.name, state.double(value.name).index_select(axis, kept.nonzero().view(-1)))


def _along(table: tuple[int, ...], shape: tuple[int, ...], axis: int, node: Node) -> bool:
    """Whether a tensor that an operator is given holds one number, or one for each channel."""
    if node.op in _ALONG_ONE:
        return table in ((1,), (shape[1],))
    places = range(len(shape) - len(table), len(shape))
    return len(table) <= len(shape) and all(
        size == 1 or (place == axis and size == shape[axis]) for place, size in zip(places, table, strict=True)
    )


class Pool(Rule):
    """Pools and means over positions: a constant stays one, unless padding zeros take part in the mean."""

    def __init__(self, node: Node, state: State):
        super().__init__(node, state)
        self.inner = state.channels[source(node)]

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        inner = state.channels.get(source(node))
        if node.op not in POOLS or inner is None:
            return False
        if node.op != "mean.dim":
            return inner.axis == 1 and len(state.shapes[source(node)]) > 2
        rank = len(state.shapes[source(node)])
        axes = {axis % rank for axis in node.args[1] or range(rank)}
        return axes.isdisjoint({0, inner.axis}) and node.args[3] is None

    def forward(self, state: State) -> None:
        constant = self.inner.constant
        if self._zeros():
            constant = constant & (self.inner.value == 0)
        state.follow(self.node.name, self.inner, self._axis(state), constant, self.inner.value)

    def _zeros(self) -> bool:
        """Whether a mean may count zeros, or divide by another number than it sums."""
        if not self.node.op.startswith("avg_pool"):
            return False
        padded, counted = any(self.node.args[3]), self.node.args[5]
        return (padded and counted) or self.node.args[4] or any(value is not None for value in self.node.args[6:])

    def _axis(self, state: State) -> int:
        if self.node.op != "mean.dim" or self.node.args[2]:
            return self.inner.axis
        rank = len(state.shapes[source(self.node)])
        ahead = [axis for axis in self.node.args[1] if axis % rank < self.inner.axis]
        return self.inner.axis - len(ahead)

    def backward(self, state: State) -> None:
        state.need(source(self.node), state.reads(self.node.name))


class Concatenation(Rule):
    """Values side by side along their channels."""

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        if node.op != "cat" or not all(part.name in state.channels for part in node.args[0]):
            return False
        axis = node.args[1] % len(state.shapes[node.name])
        return all(state.channels[part.name].axis == axis for part in node.args[0])

    def forward(self, state: State) -> None:
        parts = [state.channels[part.name] for part in self.node.args[0]]
        slots, constant, value = (
            torch.cat([getattr(part, key) for part in parts]) for key in ("slots", "constant", "value")
        )
        state.follow(self.node.name, replace(parts[0], slots=slots), parts[0].axis, constant, value)

    def backward(self, state: State) -> None:
        sizes = [state.channels[part.name].count for part in self.node.args[0]]
        for part, read in zip(self.node.args[0], torch.split(state.reads(self.node.name), sizes), strict=True):
            state.need(part.name, read)

    def rewritten(self, state: State) -> Node:
        parts = tuple(part for part in self.node.args[0] if state.kept(part.name).any())
        return replace(self.node, args=(parts, *self.node.args[1:]))


class Reshape(Rule):
    """The same numbers in another shape, in which each channel is one index, or several in a row, of some axis."""

    def __init__(self, node: Node, state: State):
        super().__init__(node, state)
        self.inner = state.channels[source(node)]
        self.axis = _new_axis(node, state) or 0
        self.block = state.shapes[node.name][self.axis] // self.inner.count

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        if node.op not in RESHAPES or source(node) not in state.channels:
            return False
        axis = _new_axis(node, state)
        return axis is not None and (node.op not in ("view", "reshape") or isinstance(node.args[1][axis], int))

    def forward(self, state: State) -> None:
        old = self.inner
        slots, constant, value = (t.repeat_interleave(self.block) for t in (old.slots, old.constant, old.value))
        state.follow(self.node.name, replace(old, slots=slots), self.axis, constant, value)

    def backward(self, state: State) -> None:
        state.need(source(self.node), state.reads(self.node.name).view(-1, self.block).any(1))

    def rewritten(self, state: State) -> Node:
        if self.node.op not in ("view", "reshape") or self.node.args[1][self.axis] == -1:
            return self.node
        size = list(self.node.args[1])
        size[self.axis] = int(state.kept(self.node.name).sum())
        return replace(self.node, args=(self.node.args[0], tuple(size)))


def _new_axis(node: Node, state: State) -> int | None:
    """The axis along which the channels lie in the new shape, None where they do not lie along one."""
    old, new, inner = state.shapes[source(node)], state.shapes[node.name], state.channels[source(node)]
    for axis in range(1, len(new)):
        ahead = math.prod(new[:axis]) == math.prod(old[: inner.axis])
        if ahead and new[axis] % inner.count == 0 and new[axis] <= math.prod(old[inner.axis :]):
            return axis
    return None


class Size(Rule):
    """The length of an axis."""

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        return node.op == "sym_size.int" and source(node) in state.channels

    def forward(self, state: State) -> None:
        if not self._of_images(state):
            state.pin(source(self.node))

    def _of_images(self, state: State) -> bool:
        """Whether it is the number of images."""
        return self.node.args[1] == 0 and state.shapes[source(self.node)][0] == state.shapes[state.graph.input][0]

    def backward(self, state: State) -> None:
        pass

    def rewritten(self, state: State) -> Node:
        # Asked of the images themselves: the value it was asked of may be gone.
        return replace(self.node, args=(Ref(state.graph.input), 0)) if self._of_images(state) else self.node


class Barrier(Rule):
    """Whatever else there is: it reads every channel where it is."""

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        return True

    def forward(self, state: State) -> None:
        for name in self.sources:
            state.pin(name)

    def backward(self, state: State) -> None:
        if state.reads(self.node.name).any():
            for name in self.node.refs():
                state.need(name)

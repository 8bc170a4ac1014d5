"""Operators that compute each channel from the one in its place: functions, sums, gates, pools."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harp.export.channels.rule import Rule, source
from harp.export.channels.state import State
from harp.graph import Node, Ref, Value
from harp.graph.calls import CONSTANTS, call_of
from harp.graph.operators import operator

# Of finite numbers they make finite numbers: a channel that nobody reads may be computed from zeros.
_FUNCTIONS = """
relu relu6 hardtanh leaky_relu elu selu celu silu gelu sigmoid hardsigmoid hardswish tanh softplus prelu mish hardshrink
softshrink threshold log_sigmoid clamp neg abs square clone batch_norm maximum minimum
add.Scalar sub.Scalar mul.Scalar div.Scalar rsub.Scalar add.Tensor sub.Tensor mul.Tensor div.Tensor
"""
_POOLS = """
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d mean.dim
"""
FUNCTIONS, POOLS = frozenset(_FUNCTIONS.split()), frozenset(_POOLS.split())
_ALONG_ONE = {"batch_norm", "prelu"}  # their tensors [C] go along axis 1


class Channelwise(Rule):
    """A function of each channel, or of the same channel of several values: activations, batch norms, sums, gates."""

    def __init__(self, node: Node, state: State):
        super().__init__(node, state)
        self.axis = state.channels[self.sources[0]].axis
        self.count = state.channels[self.sources[0]].count

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        names = node.refs()
        tables = [name for name in names if state.constant(name)]
        passed = [name for name in names if name in state.channels]
        if node.op not in FUNCTIONS or not passed or len(tables) + len(passed) < len(names):
            return False
        if node.op == "div.Tensor" and node.args[1].name in passed:
            return False  # zeros in the place of what nobody reads would not stay finite
        shape, axis = state.shapes[node.name], state.channels[passed[0]].axis
        alike = all(_layout(name, state) == (axis, shape[axis], len(shape)) for name in passed)
        return alike and all(_along(state.shapes[name], shape, axis, node) for name in tables)

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
        made: Tensor = call_of(self.node.op)(*(value for p, value in given if not p.keyword), **keyword)
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


def _layout(name: str, state: State) -> tuple[int, int, int]:
    """The axis of a value's channels, how many there are, and how many axes."""
    found = state.channels[name]
    return found.axis, found.count, len(state.shapes[name])


def _along(table: tuple[int, ...], shape: tuple[int, ...], axis: int, node: Node) -> bool:
    """Whether a tensor that an operator is given holds one number, or one for each channel."""
    if node.op in _ALONG_ONE:
        return axis == 1 and table in ((1,), (shape[1],))
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

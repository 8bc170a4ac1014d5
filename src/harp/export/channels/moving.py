"""Operators that move channels without computing with them, and those of which nothing is known."""

import math
from dataclasses import replace

import torch

from harp.export.channels.rule import Rule, source
from harp.export.channels.state import State
from harp.graph import Node, Ref

RESHAPES = frozenset(("view", "reshape", "flatten.using_ints", "unsqueeze", "squeeze", "squeeze.dim", "squeeze.dims"))


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

"""Layers with weights between channels: where channels begin, end and are found to be constant."""

from dataclasses import replace

import torch
from torch import Tensor

from harp.export.channels.rule import Rule, source
from harp.export.channels.state import State
from harp.export.rewriting import bias_name
from harp.graph import Node, Ref, Value

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_SMALL = 1e-3  # a carrier's constant may be this much smaller than the largest it carries


def _has_weights(node: Node, state: State) -> bool:
    """Whether the layer's weight and bias are numbers, and its input one of images."""
    if node.op not in (*_CONVOLUTIONS, "linear"):
        return False
    weight, bias = node.args[1:3]
    fixed = all(value is None or state.constant(value.name) for value in (weight, bias))
    batched = node.op == "linear" or len(state.shapes[source(node)]) == len(state.shapes[weight.name])
    return fixed and batched and len(state.shapes[weight.name]) >= 2


def _bias(node: Node, state: State, rows: int) -> Tensor:
    value = node.args[2]
    return torch.zeros(rows, dtype=torch.float64) if value is None else state.double(value.name).clone()


def _stored(node: Node, state: State, weight: Tensor, bias: Tensor) -> tuple[Ref, Ref | None]:
    name, had = node.args[1].name, node.args[2]
    kept = state.store(node, name, torch.where(weight == 0, 0.0, weight))
    if had is not None:
        return kept, state.store(node, had.name, bias)
    if not bias.any():
        return kept, None
    free = bias_name(name, node, state.readers.keys() | state.tensors.keys())
    state.tensors[free] = bias.to(state.graph.tensor(name).dtype)
    return kept, Ref(free)


def _computed(node: Node, state: State) -> Tensor:
    """Which of the channels that a layer makes have to be computed, bool [out]: those that are read and vary."""
    return state.reads(node.name) & ~state.channels[node.name].constant


def _emptied(node: Node, state: State, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Both (`weight` in place) with empty filters where nothing is to be computed: a constant there is its bias.

    What nobody reads is 0.
    """
    computed = _computed(node, state)
    fixed = state.channels[node.name].value * state.reads(node.name)
    weight[~computed] = 0
    return weight, torch.where(computed, bias, fixed)


class Filters(Rule):
    """A convolution without groups, or a linear layer: each channel it makes is a filter over the channels it reads.

    A filter all of whose weights are zero, or read only zeros, makes a constant, its bias; without zero padding so does
    one that reads only constants. With padding it does not: at the border it reads zeros in the constants' place.
    """

    def __init__(self, node: Node, state: State):
        super().__init__(node, state)
        self.weight = state.double(node.args[1].name)
        self.reads = (self.weight != 0).flatten(1) if self.weight.ndim == 2 else (self.weight != 0).flatten(2).any(2)
        self.axis = len(state.shapes[source(node)]) - 1 if node.op == "linear" else 1
        self.padded = node.op != "linear" and any(node.args[4])
        inner = state.channels.get(source(node))
        self.inner = inner if inner is not None and inner.axis == self.axis else None
        self.carrier: int | None = None
        self.folded = 0

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        return _has_weights(node, state) and (node.op == "linear" or node.args[6] == 1)

    def forward(self, state: State) -> None:
        value = _bias(self.node, state, len(self.weight))
        varies = self.reads
        if self.inner is None:
            state.pin(source(self.node))
        else:
            harmless = self.inner.constant if not self.padded else self.inner.constant & (self.inner.value == 0)
            varies = self.reads & ~harmless
            if not self.padded:
                value = value + self._sums() @ self.inner.value
        state.track(self.node.name, self.axis, ~varies.any(1), value)

    def _sums(self) -> Tensor:
        """Weights summed over the kernel, [out, in]."""
        return self.weight if self.weight.ndim == 2 else self.weight.flatten(2).sum(2)

    def backward(self, state: State) -> None:
        used = self.reads[_computed(self.node, state)].any(0)  # inputs that a filter to be computed has weights for
        if self.inner is None:
            if used.any():
                state.need(source(self.node))
            return
        # Constants need not be read: `rewritten` puts what they contribute elsewhere.
        state.need(source(self.node), used & ~self.inner.constant)
        merged = used & self.inner.constant & (self.inner.value != 0)
        self.carrier, self.folded = None, int(merged.sum())
        if self.padded and merged.any():
            # At the border they are zeros, so what they add up to differs from the inside, and no bias can hold it.
            self.carrier = self._carrier(merged, state)
            self.folded -= 1

    def _carrier(self, merged: Tensor, state: State) -> int:
        """The constant channel that stands for all: one that stays anyway, or else the largest; it is read now."""
        assert self.inner is not None
        name, size = source(self.node), self.inner.value.abs() / self.inner.value[merged].abs().max()
        stays = state.reads(name) | state.kept(name)
        possible = self.inner.constant & (size >= _SMALL) & (merged | stays)
        best = int(torch.where(possible, size.clamp(max=1) + 2.0 * stays, -1.0).argmax())
        if state.choosing:
            state.need(name, torch.arange(self.inner.count) == best)
        return best

    def rewritten(self, state: State) -> Node:
        weight, bias = self.weight.clone(), _bias(self.node, state, len(self.weight))
        kept_inputs = torch.ones(weight.shape[1], dtype=torch.bool)
        if self.inner is not None:
            self._fold(weight, bias)
            kept_inputs = state.kept(source(self.node))
        kept_filters = state.kept(self.node.name)
        weight, bias = _emptied(self.node, state, weight, bias)
        first, second = _stored(self.node, state, weight[kept_filters][:, kept_inputs], bias[kept_filters])
        return replace(self.node, args=(self.node.args[0], first, second, *self.node.args[3:]))

    def _fold(self, weight: Tensor, bias: Tensor) -> None:
        """Constant inputs moved into the bias, or, under padding, into the one that carries them."""
        assert self.inner is not None
        constant, value = self.inner.constant, self.inner.value
        if not self.padded:
            bias += self._sums() @ value
        # What all constants come to, tap by tap: the kernel for a channel of ones.
        together = None if self.carrier is None else torch.tensordot(weight, value, dims=([1], [0]))
        weight[:, constant] = 0
        if together is not None:
            weight[:, self.carrier] = together / value[self.carrier]


class Depthwise(Rule):
    """A convolution with as many groups as channels: each channel is made from the one in its place."""

    def __init__(self, node: Node, state: State):
        super().__init__(node, state)
        self.weight = state.double(node.args[1].name)
        self.inner = state.channels[source(node)]

    @classmethod
    def applies(cls, node: Node, state: State) -> bool:
        if not _has_weights(node, state) or node.op == "linear" or source(node) not in state.channels:
            return False
        inner, shape = state.channels[source(node)], state.shapes[node.args[1].name]
        return inner.axis == 1 and node.args[6] == inner.count == shape[0]

    def forward(self, state: State) -> None:
        reads, padded = (self.weight != 0).flatten(1).any(1), any(self.node.args[4])
        fixed = self.inner.constant & ((self.inner.value == 0) | (not padded))
        value = _bias(self.node, state, len(self.weight)) + self.weight.flatten(1).sum(1) * self.inner.value
        state.follow(self.node.name, self.inner, 1, ~reads | fixed, value)

    def backward(self, state: State) -> None:
        state.need(source(self.node), _computed(self.node, state))

    def rewritten(self, state: State) -> Node:
        kept = state.kept(self.node.name)
        bias = _bias(self.node, state, len(self.weight))
        weight, bias = _emptied(self.node, state, self.weight.clone(), bias)
        first, second = _stored(self.node, state, weight[kept], bias[kept])
        values: tuple[Value, ...] = (self.node.args[0], first, second, *self.node.args[3:6], int(kept.sum()))
        return replace(self.node, args=values)

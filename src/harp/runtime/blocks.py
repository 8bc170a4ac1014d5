"""Layers as steps for a block of images at a time, one image in each lane: quicker where maps are small."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harp.runtime.emitting import Ends, emit, is_linear
from harp.runtime.layers import Layer, Shape
from harp.runtime.memory import Planes
from harp.runtime.narrowing import check_room
from harp.runtime.program import Compiled, Steps, act_fields
from harp.runtime.taps import Ints, Taps
from harp.runtime.tiling import Machine, block_cost


@dataclass(frozen=True)
class Piece:
    """Rows and columns of a map whose sums, for `width` filters, are kept in registers at once.

    `lists` of entries per filter: one for each row of the kernel where rows of it that meet only padding are left out.
    """

    rows: int
    columns: int
    width: int = 1
    lists: int = 1


def pieces(layer: Layer, machine: Machine, width: int) -> list[Piece]:
    """As large as registers allow; and single rows, most of which meet less padding, where a map has several."""
    most = (16 if machine.registers == 32 else 8) // width
    columns = min(layer.shape[2], 4, most)
    rows = max(1, min(layer.shape[1], 4, most // columns))
    kernel = layer.window.kernel[0]
    split = [Piece(1, columns, width, kernel)] if kernel > 1 and layer.shape[1] > 1 else []
    return [Piece(rows, columns, width), *split]


def met(layer: Layer, given: int) -> Ints:
    """Of how many of the map's rows each row of the kernel meets one of the `given` rows."""
    w = layer.window
    row = np.arange(layer.shape[1])[:, None] * w.stride[0] - w.padding[0] + np.arange(w.kernel[0]) * w.dilation[0]
    rows: Ints = ((row >= 0) & (row < given)).sum(0)
    return rows


class Blocks:
    """What each layer does on a block of images."""

    def __init__(self, taps: Mapping[str, Taps], shapes: Mapping[str, Shape], machine: Machine):
        self.taps, self.shapes, self.machine = taps, shapes, machine
        self.weights = sum(len(one.value) for one in taps.values())

    def cost(self, layer: Layer) -> float:
        """Cycles per image."""
        taps = self.taps.get(layer.name)
        if taps is None:
            return 0.0
        if is_linear(layer):
            return block_cost(1, 1, len(taps.value), taps.filters, self.machine.lanes)
        return self._cost(layer, self._piece(layer))

    def _piece(self, layer: Layer) -> Piece:
        """The cheapest."""
        return min(self._pieces(layer), key=lambda piece: self._cost(layer, piece))

    def _pieces(self, layer: Layer) -> list[Piece]:
        return pieces(layer, self.machine, 1) + pieces(layer, self.machine, 4)

    def _cost(self, layer: Layer, piece: Piece) -> float:
        taps, (_, height, width) = self.taps[layer.name], layer.shape
        entries = float(len(taps.value) if piece.width == 1 else taps.quad_count)
        times = -(-height // piece.rows) * -(-width // piece.columns)
        if piece.lists > 1:
            share = np.bincount(taps.y, minlength=piece.lists) / max(1, len(taps.value))
            entries *= float(share @ met(layer, self.shapes[layer.inputs[0]][1])) / height
        size = piece.rows * piece.columns
        return block_cost(times, size, entries, taps.filters, self.machine.lanes, piece.width)

    def program(self, layers: Sequence[Layer], ends: Ends) -> Compiled:
        """These layers, between values that enter and leave."""
        steps = Steps(images=self.machine.lanes, weights=self.weights)
        for name in [*ends.inputs, *(layer.name for layer in layers)]:
            steps.planes[name] = Planes(*self.shapes[name], self.shapes[name][2])
        for layer in layers:
            if layer.kind == "conv" and not is_linear(layer):
                _room(steps.planes[layer.inputs[0]], layer)
        for name, planes in steps.planes.items():
            check_room(planes.size * self.machine.lanes, self.weights, name)
        for name, number in ends.inputs.items():
            steps.add("input", name, channel=number)
        for layer in layers:
            emit(steps, layer, self.taps, self.shapes, self._conv)
        for name, number in ends.outputs:
            steps.add("output", "", (name,), channel=number)
        return steps.done()

    def _conv(self, steps: Steps, layer: Layer) -> None:
        taps, window, source = self.taps[layer.name], layer.window, steps.planes[layer.inputs[0]]
        y = taps.y * window.dilation[0] - window.padding[0]
        x = taps.x * window.dilation[1] - window.padding[1]
        offset = taps.channel * source.plane + y * source.pitch + x
        piece = self._piece(layer)
        lists = taps.entries if piece.width == 1 else taps.quads
        starts, entries = lists(offset, taps.y if piece.lists > 1 else np.zeros(1, np.int64), piece.lists)
        numbers = {"filters": taps.filters, "width": piece.width, "rows": piece.rows, "columns": piece.columns}
        numbers |= {"stride": window.stride[0], "kernel_h": piece.lists}
        numbers |= {"pad_h": window.padding[0], "dilate_h": window.dilation[0]}
        arrays = {"starts": starts, "entries": entries, "bias": taps.bias}
        steps.add("conv", layer.name, layer.inputs, **numbers, **arrays, **act_fields(layer))


def _room(planes: Planes, layer: Layer) -> None:
    """Zeros around the rows: one gap between two rows is the right of one and the left of the other."""
    w = layer.window
    last = [
        (size - 1) * w.stride[i] + (w.kernel[i] - 1) * w.dilation[i] - w.padding[i]
        for i, size in enumerate(layer.shape[1:])
    ]
    right = max(0, last[1] - planes.width + 1)
    planes.left = max(planes.left, w.padding[1])
    planes.pitch = max(planes.pitch, planes.width + max(planes.left, right))
    planes.reach(w.padding[0], max(0, last[0] - planes.height + 1) + 1)

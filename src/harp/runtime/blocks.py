"""Layers as steps for a block of images at a time, one image in each lane: quicker where maps are small."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harp.runtime.emitting import Ends, emit, is_linear
from harp.runtime.layers import Layer, Shape
from harp.runtime.memory import Planes
from harp.runtime.program import Compiled, Steps, act_fields
from harp.runtime.taps import Taps
from harp.runtime.tiling import Machine, block_cost


def piece_of(shape: Shape, machine: Machine, width: int) -> tuple[int, int]:
    """Rows and columns of a map whose sums, for `width` filters, are kept in registers at once."""
    most = (16 if machine.registers == 32 else 8) // width
    columns = min(shape[2], 4, most)
    return max(1, min(shape[1], 4, most // columns)), columns


class Blocks:
    """What each layer does on a block of images."""

    def __init__(self, taps: Mapping[str, Taps], shapes: Mapping[str, Shape], machine: Machine):
        self.taps, self.shapes, self.machine = taps, shapes, machine

    def cost(self, layer: Layer) -> float:
        """Cycles per image."""
        taps = self.taps.get(layer.name)
        return 0.0 if taps is None else self._costs(layer, taps)[self._width(layer)]

    def _width(self, layer: Layer) -> int:
        """For how many filters at a time the layer is cheaper."""
        costs = self._costs(layer, self.taps[layer.name])
        return min(costs, key=lambda width: costs[width])

    def _costs(self, layer: Layer, taps: Taps) -> dict[int, float]:
        def cost(width: int, entries: int) -> float:
            piece = math.prod(piece_of(layer.shape, self.machine, width))
            pixels = layer.shape[1] * layer.shape[2]
            return block_cost(pixels, piece, entries, taps.filters, self.machine.lanes, width)

        alone = cost(1, len(taps.value))
        return {1: alone} if is_linear(layer) else {1: alone, 4: cost(4, taps.quad_count)}

    def program(self, layers: Sequence[Layer], ends: Ends) -> Compiled:
        """These layers, between values that enter and leave."""
        steps = Steps(images=self.machine.lanes)
        for name in [*ends.inputs, *(layer.name for layer in layers)]:
            steps.planes[name] = Planes(*self.shapes[name], self.shapes[name][2])
        for layer in layers:
            if layer.kind == "conv" and not is_linear(layer):
                _room(steps.planes[layer.inputs[0]], layer)
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
        width = self._width(layer)
        lists = taps.entries if width == 1 else taps.quads
        starts, entries = lists(offset, np.zeros(1, np.int64), 1)
        rows, columns = piece_of(layer.shape, self.machine, width)
        numbers = {
            "filters": taps.filters,
            "width": width,
            "stride": window.stride[0],
            "rows": rows,
            "columns": columns,
        }
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

"""Layers as steps for one image at a time."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harp.runtime.convolutions import Reading, Task, reading
from harp.runtime.emitting import Ends, emit, is_linear
from harp.runtime.layers import Layer, Shape, Window
from harp.runtime.memory import Planes
from harp.runtime.narrowing import LAYERS, BeyondError, check_room, narrow
from harp.runtime.native import SHORT
from harp.runtime.program import Compiled, Steps, Views, act_fields
from harp.runtime.taps import FARTHEST, Ints, Taps
from harp.runtime.tiling import DENSE, Machine, linear_cost, pitch_of


class Single:
    """What each layer does on one image: how it reads, and what that costs."""

    def __init__(self, layers: Sequence[Layer], taps: Mapping[str, Taps], given: Mapping[str, Shape], machine: Machine):
        self.taps, self.machine = dict(taps), machine
        self.shapes: dict[str, Shape] = {**given, **{layer.name: layer.shape for layer in layers}}
        self.ways: dict[str, Reading] = {}
        self.weights = sum(len(one.value) for one in taps.values())
        if len(taps) > LAYERS:
            raise BeyondError(f"{len(taps):,} layers with weights; the engine takes {LAYERS:,}")
        self.costs = {layer.name: self._cost(layer) for layer in layers}

    def _cost(self, layer: Layer) -> float:
        taps = self.taps.get(layer.name)
        if taps is None:
            return 0.0  # the same for a block, as far as it matters
        if is_linear(layer):
            return linear_cost(len(taps.value), taps.filters)
        way = self._way(layer, taps)
        if way is None:
            raise AssertionError(f"no way to read for {layer.name}")  # a view for every column always is one
        self.ways[layer.name] = way
        return way.tiling.cost

    def _way(self, layer: Layer, taps: Taps) -> Reading | None:
        given = self.shapes[layer.inputs[0]]
        return reading(Task(taps, given, layer.swept, layer.window, self.machine, layer.halved))

    def _halved(self, layers: Sequence[Layer], leaving: Container[str]) -> list[Layer]:
        """The layers with each 2 x 2 maximum made part of the convolution before it, where planes allow for that."""
        readers = Counter(name for layer in layers for name in layer.inputs)
        makers = {layer.name: layer for layer in layers}
        joined: dict[str, Layer] = {}
        for pool in layers:
            conv = makers.get(pool.inputs[0])
            if conv is None or not halves(pool) or readers[conv.name] > 1 or conv.name in leaving:
                continue
            if conv.name in self.ways and replace(pool, halved=True).swept == conv.shape and self._join(conv, pool):
                joined[conv.name] = replace(conv, name=pool.name, shape=pool.shape, halved=True)
        gone = {layer.name for layer in joined.values()}
        return [joined.get(layer.name, layer) for layer in layers if layer.name not in gone]

    def _join(self, conv: Layer, pool: Layer) -> bool:
        pitches = [pitch_of(shape[1], shape[2], self.machine) for shape in (conv.shape, pool.shape)]
        if pitches != [conv.shape[2], pool.shape[2]]:
            return False
        way = self._way(replace(conv, shape=pool.shape, halved=True), self.taps[conv.name])
        if way is None or way.tiling.cost > 1.1 * self.costs[conv.name]:
            return False
        self.ways[pool.name], self.taps[pool.name] = way, self.taps[conv.name]
        return True

    def planes(self, shape: Shape) -> Planes:
        """Planes of a value of that shape."""
        return Planes(*shape, pitch_of(shape[1], shape[2], self.machine))

    def program(self, layers: Sequence[Layer], ends: Ends) -> Compiled:
        """These of the layers, between values that enter and leave."""
        layers = self._halved(layers, {name for name, _ in ends.outputs})
        steps = Steps(images=1, weights=self.weights)
        for name in [*ends.inputs, *(layer.name for layer in layers)]:
            steps.planes[name] = self.planes(self.shapes[name])
        for layer in layers:
            self._room(steps, layer)
        for name, planes in steps.planes.items():
            check_room(planes.size, self.weights, name)
        for name, number in ends.inputs.items():
            steps.add("input", name, channel=number, tokens=ends.tokens(name))
        for layer in layers:
            emit(steps, layer, self.taps, self.shapes, self._conv)
        for name, number in ends.outputs:
            steps.add("output", "", (name,), channel=number, tokens=ends.tokens(name))
        return steps.done()

    def _room(self, steps: Steps, layer: Layer) -> None:
        way = self.ways.get(layer.name)
        if way is None:
            return
        read = self._read(steps, layer, way)
        if read.name not in steps.planes:
            given = self.shapes[layer.inputs[0]]
            shape = (given[0] * len(way.views), read.height, read.width)
            steps.planes[read.name] = Planes(*shape, read.pitch, tag=(way.stride, way.views, given))
            steps.views.setdefault(read.of, []).append(read)
        source = steps.planes[read.name]
        below = layer.swept[1] - source.height + int(way.row.max())
        source.reach(max(0, -int(way.row.min())), max(0, below))
        target = steps.planes[layer.name]
        target.span = max(target.span, way.tiling.span // (4 if layer.halved else 1))
        steps.slack = max(steps.slack, way.tiling.span + (abs(way.row).max() + 2) * source.pitch + 64)

    def _read(self, steps: Steps, layer: Layer, way: Reading) -> Views:
        """What the layer reads: planes as they are, or views of them, which another layer may have asked for."""
        name = layer.inputs[0]
        if not way.stride:
            return Views(name, name, 0, 0, 0, 0, ())
        _, height, width = layer.swept
        pitch = pitch_of(height, width, self.machine)
        if way.tiling.width != DENSE:  # rows of the source, which taps read from wherever they lie
            height = -(-self.shapes[name][1] // way.stride)
        wanted = Views(f"{layer.name}#views", name, way.stride, height, width, pitch, way.views)
        return next((views for views in steps.views.get(name, ()) if views.serves(wanted)), wanted)

    def _conv(self, steps: Steps, layer: Layer) -> None:
        taps, way = self.taps[layer.name], self.ways[layer.name]
        read = self._read(steps, layer, way)
        if way.stride and not steps.makes(read.name):
            where = narrow(np.array(read.taps))
            steps.add("views", read.name, (read.of,), stride=read.stride, views=len(read.taps), taps=where)
        source, tiling, (_, height, width) = steps.planes[read.name], way.tiling, layer.swept
        pitch = pitch_of(height, width, self.machine)
        view = taps.channel
        if way.stride:
            place = {tap: number for number, tap in enumerate(read.taps)}
            places = np.array([place[tap] for tap in way.views])
            view = view * len(read.taps) + places[way.view[taps.y, taps.x]]
        offset = view * source.plane + way.row[taps.y, taps.x] * source.pitch
        lists = self._lists(taps, offset, way)
        column = np.arange(tiling.lanes * tiling.tile) % pitch
        masks = {"up": _mask(column != 0), "down": _mask(column != pitch - 1)}
        if pitch > width or tiling.span > height * pitch:
            masks["valid"] = steps.mask(tiling.span, height, width, pitch)
        numbers = {"filters": taps.filters, "width": tiling.width, "lanes": tiling.lanes, "tile": tiling.tile}
        reach = {"tiles": tiling.tiles, "parts": tiling.parts, "before": way.before, "after": way.after}
        reach["halved"] = pitch // tiling.lanes if layer.halved else 0
        fields = {**numbers, **reach, **lists, "bias": taps.bias, **masks, **act_fields(layer)}
        steps.add("conv", layer.name, (read.name, *layer.inputs[1:]), **fields)

    def _lists(self, taps: Taps, offset: Ints, way: Reading) -> dict[str, Any]:
        """What the tiling's kernel reads, as fields of a step: short entries wherever offsets allow for that."""
        column, width = way.column(taps), way.tiling.width
        base = int(offset.min(initial=0))
        if width == DENSE:
            starts, weights = taps.dense(offset, self.machine.lanes * self.machine.together(way.tiling.tile))
            return {"starts": starts, "entries": weights}
        if width == 1 and int(offset.max(initial=0)) - base <= FARTHEST:
            starts, entries = taps.entries(offset - base, column, way.columns, SHORT, way.tiling.parts)
            return {"brief": 1, "base": base, "starts": starts, "entries": entries}
        if width == 4:
            starts, entries = taps.quads(offset, column, way.columns)
        else:
            starts, entries = taps.entries(offset, column, way.columns, parts=way.tiling.parts)
        return {"starts": starts, "entries": entries}


def halves(layer: Layer) -> bool:
    """Whether the layer is the maximum of each 2 x 2."""
    plain = Window((2, 2), (2, 2))
    return layer.kind == "pool" and not layer.average and layer.act.name == "none" and layer.window == plain


def _mask(which: Any) -> Any:
    return np.where(which, np.int32(-1), np.int32(0)).astype(np.int32)

"""Layers as steps for one image at a time."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harp.runtime.convolutions import Reading, Task, reading
from harp.runtime.layers import Layer, Shape, Window
from harp.runtime.lowering import Spec
from harp.runtime.memory import Planes
from harp.runtime.program import Compiled, Steps, Views, act_fields
from harp.runtime.taps import Taps
from harp.runtime.tiling import Machine, linear_cost, pitch_of


class Ends:
    """Values that enter and leave a program, by name, and the number each has there."""

    def __init__(self, inputs: Mapping[str, int], outputs: Sequence[tuple[str, int]], specs: Mapping[str, Spec]):
        self.inputs, self.outputs, self.specs = inputs, outputs, specs

    def tokens(self, name: str) -> bool:
        """Whether its dense form is [..., channels]."""
        return self.specs[name].form == "tokens"


class Single:
    """What each layer does on one image: how it reads, and what that costs."""

    def __init__(self, layers: Sequence[Layer], taps: Mapping[str, Taps], given: Mapping[str, Shape], machine: Machine):
        self.layers, self.taps, self.machine = layers, dict(taps), machine
        self.shapes: dict[str, Shape] = {**given, **{layer.name: layer.shape for layer in layers}}
        self.ways: dict[str, Reading] = {}
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
        steps = Steps(images=1)
        for name in [*ends.inputs, *(layer.name for layer in layers)]:
            steps.planes[name] = self.planes(self.shapes[name])
        for layer in layers:
            self._room(steps, layer)
        for name, number in ends.inputs.items():
            steps.add("input", name, channel=number, tokens=ends.tokens(name))
        for layer in layers:
            self._emit(steps, layer)
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
            shape = (given[0] * len(way.views), -(-given[1] // way.stride), layer.swept[2])
            steps.planes[read.name] = Planes(*shape, read.pitch, tag=(way.stride, way.views, given))
            steps.views.append(read)
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
            return Views(name, name, 0, 0, 0, ())
        pitch = pitch_of(*layer.swept[1:], self.machine)
        wanted = Views(f"{layer.name}#views", name, way.stride, layer.swept[2], pitch, way.views)
        return next((views for views in steps.views if views.serves(wanted)), wanted)

    def _emit(self, steps: Steps, layer: Layer) -> None:
        if is_linear(layer):
            emit_linear(steps, layer, self.taps[layer.name], self.shapes[layer.inputs[0]])
        elif layer.kind == "conv":
            self._conv(steps, layer)
        else:
            emit_other(steps, layer)

    def _conv(self, steps: Steps, layer: Layer) -> None:
        taps, way = self.taps[layer.name], self.ways[layer.name]
        read = self._read(steps, layer, way)
        if way.stride and not steps.makes(read.name):
            where = np.array(read.taps, np.int32)
            steps.add("views", read.name, (read.of,), stride=read.stride, views=len(read.taps), taps=where)
        source, tiling, (_, height, width) = steps.planes[read.name], way.tiling, layer.swept
        pitch = pitch_of(height, width, self.machine)
        view = taps.channel
        if way.stride:
            places = np.array([read.taps.index(tap) for tap in way.views])
            view = view * len(read.taps) + places[way.view[taps.y, taps.x]]
        offset = view * source.plane + way.row[taps.y, taps.x] * source.pitch
        lists = taps.quads if tiling.width == 4 else taps.entries
        starts, entries = lists(offset, way.column(taps), way.columns)
        column = np.arange(tiling.lanes * tiling.tile) % pitch
        masks = {"up": _mask(column != 0), "down": _mask(column != pitch - 1)}
        place = np.arange(tiling.span)
        inside = (place % pitch < width) & (place < height * pitch)
        if not inside.all():
            masks["valid"] = _mask(inside)
        numbers = {"filters": taps.filters, "width": tiling.width, "lanes": tiling.lanes, "tile": tiling.tile}
        reach = {"tiles": tiling.tiles, "before": way.before, "after": way.after}
        reach["halved"] = pitch // tiling.lanes if layer.halved else 0
        arrays = {"starts": starts, "entries": entries, "bias": taps.bias, **masks}
        steps.add("conv", layer.name, (read.name, *layer.inputs[1:]), **numbers, **reach, **arrays, **act_fields(layer))


def halves(layer: Layer) -> bool:
    """Whether the layer is the maximum of each 2 x 2."""
    plain = Window((2, 2), (2, 2))
    return layer.kind == "pool" and not layer.average and layer.act.name == "none" and layer.window == plain


def _mask(which: Any) -> Any:
    return np.where(which, np.int32(-1), np.int32(0)).astype(np.int32)


def is_linear(layer: Layer) -> bool:
    """Whether each output is one number, a sum over numbers whose places are known."""
    return layer.kind == "linear" or (layer.kind == "conv" and layer.shape[1:] == (1, 1))


def emit_linear(steps: Steps, layer: Layer, taps: Taps, given: Shape) -> None:
    """One list of entries per output, taps outside of the image left out."""
    source = steps.planes[layer.inputs[0]]
    if layer.kind == "linear":
        channel, rest = np.divmod(taps.channel, given[1] * given[2])
        y, x = np.divmod(rest, given[2])
    else:
        window = layer.window
        channel = taps.channel
        y = taps.y * window.dilation[0] - window.padding[0]
        x = taps.x * window.dilation[1] - window.padding[1]
    inside = (y >= 0) & (y < given[1]) & (x >= 0) & (x < given[2])
    offset = channel * source.plane + y * source.pitch + x
    none = np.zeros(1, np.int64)
    kept = replace(taps, filter=taps.filter[inside], channel=channel[inside], value=taps.value[inside])
    starts, entries = kept.entries(offset[inside], none, 1)
    arrays = {"starts": starts, "entries": entries, "bias": taps.bias}
    steps.add("linear", layer.name, layer.inputs, filters=taps.filters, **arrays, **act_fields(layer))


def emit_other(steps: Steps, layer: Layer) -> None:
    """Everything without weights."""
    act = act_fields(layer)
    if layer.kind == "pool":
        w = layer.window
        numbers = {"kernel_h": w.kernel[0], "kernel_w": w.kernel[1], "pad_h": w.padding[0], "pad_w": w.padding[1]}
        more = {"stride_h": w.stride[0], "stride_w": w.stride[1], "dilate_h": w.dilation[0], "dilate_w": w.dilation[1]}
        how = {"average": int(layer.average), "count_pad": int(layer.count_pad)}
        steps.add("pool", layer.name, layer.inputs, **numbers, **more, **how, **act)
    elif layer.kind == "cat":
        channel = 0
        for name in layer.inputs:
            steps.add("copy", layer.name, (name,), channel=channel, **act)
            channel += steps.planes[name].channels
    else:
        steps.add(layer.kind, layer.name, layer.inputs, **act)

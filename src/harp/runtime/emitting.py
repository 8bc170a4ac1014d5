"""Steps that are the same for one image and for a block of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harp.runtime.layers import Layer, Shape
from harp.runtime.program import Steps, act_fields
from harp.runtime.taps import Taps
from harp.runtime.values import Spec


class Ends:
    """Values that enter and leave a program, by name, and the number each has there."""

    def __init__(self, inputs: Mapping[str, int], outputs: Sequence[tuple[str, int]], specs: Mapping[str, Spec]):
        self.inputs, self.outputs, self.specs = inputs, outputs, specs

    def tokens(self, name: str) -> bool:
        """Whether its dense form is [..., channels]."""
        return self.specs[name].form == "tokens"


def emit(
    steps: Steps,
    layer: Layer,
    taps: Mapping[str, Taps],
    shapes: Mapping[str, Shape],
    conv: Callable[[Steps, Layer], None],
) -> None:
    """Adds the layer's steps; `conv` adds those of a convolution, which has its own way in each layout."""
    if is_linear(layer):
        _linear(steps, layer, taps[layer.name], shapes[layer.inputs[0]])
    elif layer.kind == "conv":
        conv(steps, layer)
    else:
        _plain(steps, layer)


def is_linear(layer: Layer) -> bool:
    """Whether each output is one number, a sum over numbers whose places are known."""
    return layer.kind == "linear" or (layer.kind == "conv" and layer.shape[1:] == (1, 1))


def _linear(steps: Steps, layer: Layer, taps: Taps, given: Shape) -> None:
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


def _plain(steps: Steps, layer: Layer) -> None:
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

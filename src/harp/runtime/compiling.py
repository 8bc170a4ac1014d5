"""From a segment of a graph to programs for one image and for blocks of images."""

import math
from collections.abc import Mapping, Sequence
from ctypes import c_int64, pointer
from typing import Any

from torch import Tensor

from harp.graph import Sparse
from harp.runtime.blocks import Blocks
from harp.runtime.layers import Layer
from harp.runtime.native import Network
from harp.runtime.program import Compiled
from harp.runtime.segments import Segment, fused
from harp.runtime.single import Ends, Single, bias_of
from harp.runtime.taps import Taps
from harp.runtime.tiling import Machine

BLOCK_PIXELS = 16  # larger maps of a whole block of images leave the second cache


class CompiledSegment:
    """A segment ready to run: the programs, and the sizes of what enters and leaves, in numbers per image."""

    def __init__(self, segment: Segment, constants: Mapping[str, Tensor | Sparse], machine: Machine):
        self.inputs, self.outputs = list(segment.inputs), list(segment.outputs)
        self.layers = fused(segment)
        sources = [segment.base(name) for name in self.outputs]
        made = {layer.name: segment.specs[layer.name] for layer in segment.layers}
        specs = {**{name: segment.specs[name] for name in self.inputs}, **made}
        taps = {
            layer.name: Taps.of(constants[layer.weight], layer.window, layer.groups)
            for layer in self.layers
            if layer.weight
        }
        biases = {
            name: bias_of(layer, constants, taps[name].filters) for layer in self.layers if (name := layer.name) in taps
        }
        given = {name: specs[name].shape for name in self.inputs}
        self.single = Single(self.layers, taps, given, machine)
        into = {name: number for number, name in enumerate(self.inputs)}
        outof = _numbered(sources)
        self.whole = _program(self.single, self.layers, into, outof, specs, biases)
        tail = self._tail(Blocks(taps, self.single.shapes, machine), specs)
        self.head: Compiled | None = None
        self.tail: Compiled | None = None
        self.bounds: list[str] = []
        if tail:
            self._split(tail, into, outof, specs, biases, Blocks(taps, self.single.shapes, machine))
        self.tail_layers = [layer.name for layer in tail] if tail else []
        self._sizes = [_size(specs[name].shape) for name in self.inputs], [_size(specs[name].shape) for name in sources]
        self._bound_sizes = [_size(self.single.shapes[name]) for name in self.bounds]
        self.lanes = machine.lanes

    def _tail(self, blocks: Blocks, specs: Mapping[str, Any]) -> list[Layer]:
        """The last layers, as many as a block of images runs in less time; all their values are small maps."""
        if any(spec.form == "tokens" for spec in specs.values()):
            return []
        best, at, saved = 0.0, len(self.layers), 0.0
        for place in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[place]
            shapes = [self.single.shapes[name] for name in (*layer.inputs, layer.name)]
            if any(shape[1] * shape[2] > BLOCK_PIXELS for shape in shapes):
                break
            saved += self.single.costs[layer.name] - blocks.cost(layer)
            if saved > best:
                best, at = saved, place
        return list(self.layers[at:])

    def _split(
        self, tail: Sequence[Layer], into: dict[str, int], outof: Any, specs: Any, biases: Any, blocks: Blocks
    ) -> None:
        head = list(self.layers[: len(self.layers) - len(tail)])
        early = {layer.name for layer in head}
        read = dict.fromkeys(name for layer in tail for name in layer.inputs)
        self.bounds = [name for name in read if name in early]
        bounds = {name: len(outof) + i for i, name in enumerate(self.bounds)}
        self.head = _program(
            self.single,
            head,
            {n: i for n, i in into.items() if _read(head, n)},
            [(n, i) for n, i in outof if n in early] + list(bounds.items()),
            specs,
            biases,
        )
        bounds = {name: len(into) + i for i, name in enumerate(self.bounds)}
        entering = {**{n: i for n, i in into.items() if n in read}, **bounds}
        self.tail = _program(blocks, tail, entering, [(n, i) for n, i in outof if n not in early], specs, biases)

    def network(self) -> tuple[Network, Any]:
        """The structure the engine takes, and what has to live as long as it does."""
        inputs, outputs = ([*sizes, *self._bound_sizes] for sizes in self._sizes)
        kept = ((c_int64 * len(inputs))(*inputs), (c_int64 * len(outputs))(*outputs))
        programs = [pointer(part.program) if part else None for part in (self.whole, self.head, self.tail)]
        floats = (c_int64 * 3)(*self._floats())
        counts = (len(self.inputs), len(self.outputs), len(self.bounds), max(2, self.lanes // 3))
        return Network(*programs, *counts, *kept, floats), (kept, programs)

    def _floats(self) -> list[int]:
        parts = ((self.whole, 1), (self.head, 1), (self.tail, self.lanes))
        return [part.size * images if part else 0 for part, images in parts]

    def floats(self) -> int:
        """Numbers in the arena of one thread."""
        return sum(self._floats()) + sum(self._bound_sizes) * self.lanes


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, number) for number, name in enumerate(names)]


def _program(
    maker: Any, layers: Sequence[Layer], into: Mapping[str, int], outof: Any, specs: Any, biases: Any
) -> Compiled:
    return maker.program(layers, Ends(into, outof, specs), biases)  # type: ignore[no-any-return]


def _read(layers: Sequence[Layer], name: str) -> bool:
    return any(name in layer.inputs for layer in layers)


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)

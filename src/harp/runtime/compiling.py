"""From a segment of a graph to programs: for one image, and for blocks of images once a batch asks for them."""

import math
from collections.abc import Mapping, Sequence
from ctypes import c_int64, pointer
from typing import Any

from harp.graph import Array, SparseArray
from harp.runtime.blocks import Blocks
from harp.runtime.emitting import Ends
from harp.runtime.layers import Layer, Shape
from harp.runtime.narrowing import BeyondError, check_room
from harp.runtime.native import Network
from harp.runtime.program import Compiled
from harp.runtime.segments import Segment, fused
from harp.runtime.single import Single
from harp.runtime.taps import Taps
from harp.runtime.tiling import Machine

# Larger maps of a whole block of images leave the second cache: pixels of what is made, and of what is read to make it.
MADE, READ = 16, 64
# Products of a weight and a value from which on one thread more pays: to begin it takes as long as a tenth of them.
WORTH = 2_000_000


class CompiledSegment:
    """A segment ready to run.

    `whole` runs all layers on one image. Where maps get small, `head` runs the first layers on one image and `tail` the
    others on a block of images; they are made by `divide`, because a network that never sees a batch needs none.
    """

    def __init__(self, segment: Segment, constants: Mapping[str, Array | SparseArray], machine: Machine):
        self.inputs, self.outputs = list(segment.inputs), list(segment.outputs)
        self.layers = fused(segment)
        self.lanes = machine.lanes
        self._specs = dict(segment.specs)
        taps = {layer.name: taps_of(layer, constants) for layer in self.layers if layer.weight}
        given = {name: self._specs[name].shape for name in self.inputs}
        self._single = Single(self.layers, taps, given, machine)
        self._blocks = Blocks(taps, self._single.shapes, machine)
        self._into = list(zip(self.inputs, range(len(self.inputs)), strict=True))
        self._outof = [(segment.base(name), number) for number, name in enumerate(self.outputs)]
        self.bounds: list[str] = []
        self.head: Compiled | None = None
        self.tail: Compiled | None = None
        self.whole = self._program(self._single, self.layers, self._into, self._outof)
        self.late = self._late()
        self.weights = self._single.weights

    def _program(self, maker: Single | Blocks, layers: Sequence[Layer], into: Any, outof: Any) -> Compiled:
        return maker.program(layers, Ends(dict(into), outof, self._specs))

    def _late(self) -> list[Layer]:
        """The last layers, as many as a block of images runs in less time; what they make are small maps."""
        if any(spec.form == "tokens" for spec in self._specs.values()):
            return []
        best, at, saved = 0.0, len(self.layers), 0.0
        for place in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[place]
            if _pixels(layer.shape) > MADE or any(_pixels(self._single.shapes[n]) > READ for n in layer.inputs):
                break
            saved += self._single.costs[layer.name] - self._blocks.cost(layer)
            if saved > best:
                best, at = saved, place
        return self.layers[at:]

    @property
    def block(self) -> int:
        """From so many images on a block is quicker than one by one."""
        return max(2, self.lanes // 3)

    def divide(self) -> None:
        """Makes the programs for blocks of images; none where they are larger than the engine takes.

        The head hands over the `bounds`, values it makes and the tail reads. To the engine these are further outputs of
        the head and further inputs of the tail, numbered after the segment's own.
        """
        try:
            self.bounds, self.head, self.tail = self._halves()
            check_room(self.cells(), self.weights, "arenas for blocks of images")
        except BeyondError:
            self.bounds, self.head, self.tail, self.late = [], None, None, []

    def _halves(self) -> tuple[list[str], Compiled, Compiled]:
        early = self.layers[: len(self.layers) - len(self.late)]
        made_early = {layer.name for layer in early}
        read_early = {name for layer in early for name in layer.inputs}
        read_late = dict.fromkeys(name for layer in self.late for name in layer.inputs)  # in order, each once
        bounds = [name for name in read_late if name in made_early]

        inputs = [(name, number) for name, number in self._into if name in read_early]
        outputs = [(name, number) for name, number in self._outof if name in made_early]
        handed_over = [(name, len(self._outof) + place) for place, name in enumerate(bounds)]
        head = self._program(self._single, early, inputs, outputs + handed_over)

        inputs = [(name, number) for name, number in self._into if name in read_late]
        outputs = [(name, number) for name, number in self._outof if name not in made_early]
        taken_over = [(name, len(self._into) + place) for place, name in enumerate(bounds)]
        return bounds, head, self._program(self._blocks, self.late, inputs + taken_over, outputs)

    def network(self) -> tuple[Network, Any]:
        """The structure the engine takes, and what has to live as long as it does."""
        bounds = self._sizes(self.bounds)
        inputs = [*self._sizes(name for name, _ in self._into), *bounds]
        outputs = [*self._sizes(name for name, _ in self._outof), *bounds]
        kept = ((c_int64 * len(inputs))(*inputs), (c_int64 * len(outputs))(*outputs))
        programs = [pointer(part.program) if part else None for part in (self.whole, self.head, self.tail)]
        counts = (len(self.inputs), len(self.outputs), len(self.bounds), self.block)
        return Network(*programs, *counts, *kept, (c_int64 * 3)(*self._cells()), WORTH), (kept, programs)

    def input_sizes(self) -> list[int]:
        """Numbers that one image has in each input."""
        return self._sizes(self.inputs)

    def _sizes(self, names: Any) -> list[int]:
        return [math.prod(self._single.shapes[name]) for name in names]

    def _cells(self) -> list[int]:
        parts = ((self.whole, 1), (self.head, 1), (self.tail, self.lanes))
        return [part.size * images if part else 0 for part, images in parts]

    def cells(self) -> int:
        """Numbers in the arena of one thread, of two or four bytes as the build has them.

        What the head hands to the tail lies there in float32, twice as wide as the narrow ones.
        """
        return sum(self._cells()) + 2 * sum(self._sizes(self.bounds)) * self.lanes


def taps_of(layer: Layer, constants: Mapping[str, Array | SparseArray]) -> Taps:
    """The weights and biases of a convolution or linear layer."""
    bias = constants[layer.bias] if layer.bias else None
    return Taps.of(constants[layer.weight], bias, layer.window, layer.groups)


def _pixels(shape: Shape) -> int:
    return shape[1] * shape[2]

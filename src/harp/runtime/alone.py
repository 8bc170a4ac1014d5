"""The engine without PyTorch: arrays in, arrays out, from any number of threads at once."""

from typing import Any

import numpy as np

from harp.errors import HarpError
from harp.graph import ArrayGraph, Node, by_nobody, left_to_torch
from harp.runtime.calling import Caller, Floats
from harp.runtime.compiling import CompiledSegment
from harp.runtime.lowering import Lowering
from harp.runtime.narrowing import check_room
from harp.runtime.native import Precision, native
from harp.runtime.segments import cut
from harp.runtime.tiling import Machine


class ArrayCaller(Caller):
    """A compiled segment from arrays to arrays."""

    def __call__(self, values: dict[str, Floats], images: int) -> None:
        given = [np.ascontiguousarray(values[name], np.float32) for name in self.compiled.inputs]
        for place, (array, size) in enumerate(zip(given, self._sizes, strict=True)):
            if array.size != images * size:
                raise HarpError(f"the sparse engine was handed {array.size} numbers; expected {images * size}")
            self._into[place] = array.ctypes.data
        for place, (name, shape) in enumerate(self._shapes.items()):
            made = values[name] = np.empty((images * shape[0], *shape[1:]), np.float32)
            self._outof[place] = made.ctypes.data
        self._run(images)


class Alone:
    """A network as a function of images float32 [n, *shape] to logits float32 [n, classes], all of it in the engine.

    Any number of threads may call it at once, each with memory of its own, which is kept for the next call; `threads`
    of the engine share out the images of one call. Raises `HarpError` for a network with a layer that PyTorch would
    run, naming it, and where the engine is not built for this machine; `variant` names a build, whose name tells the
    precision, too, and None takes the quickest of that `precision`.
    """

    def __init__(self, graph: ArrayGraph, threads: int = 1, variant: str | None = None, precision: Precision = "fp32"):
        if threads < 1:
            raise HarpError(f"threads {threads}: expected at least 1")
        self.graph, self.threads, self.build = graph, threads, native(variant, precision)
        self._lowering = Lowering(graph, by_nobody, alone=True)
        machine = Machine(self.build.lanes, self.build.registers)
        self._segments: list[CompiledSegment] = []
        for item in cut(graph, self._lowering):
            if isinstance(item, Node):
                raise HarpError(left_to_torch(item))
            self._segments.append(CompiledSegment(item, self._lowering.constants, machine))
        weights = sum(segment.weights for segment in self._segments)
        check_room(sum(segment.cells() for segment in self._segments) // 2, weights, "the arenas of all segments")
        self._last = _last(self._segments, graph.output)
        self._idle = [self._callers()]

    def _callers(self) -> list[ArrayCaller]:
        return [ArrayCaller(segment, self._lowering, self.build, self.threads) for segment in self._segments]

    def __reduce__(self) -> Any:
        """A copy is compiled anew: arenas and addresses cannot be copied."""
        return Alone, (self.graph, self.threads, self.build.variant)

    def __call__(self, x: Floats) -> Floats:
        """Logits [n, classes]; raises `HarpError` for images of another shape or dtype."""
        if x.dtype != np.float32 or x.shape[1:] != self.graph.shape or not len(x):
            expected = ", ".join(map(str, self.graph.shape))
            raise HarpError(f"images of {x.dtype} {list(x.shape)}; expected float32 [n, {expected}]")
        if self.graph.batch is not None and len(x) % self.graph.batch:
            raise HarpError(f"{len(x)} images; this graph takes multiples of {self.graph.batch}")
        try:
            callers = self._idle.pop()  # in one step, so that no two threads get the same
        except IndexError:
            callers = self._callers()
        try:
            if self.graph.batch is None:
                return self._forward(x, callers)
            parts = np.split(x, len(x) // self.graph.batch)
            return np.concatenate([self._forward(part, callers) for part in parts])
        finally:
            self._idle.append(callers)

    def _forward(self, x: Floats, callers: list[ArrayCaller]) -> Floats:
        values: dict[str, Floats] = {self.graph.input: x}
        for caller, last in zip(callers, self._last, strict=True):
            caller(values, len(x))
            for name in last:
                del values[name]
        return values[self.graph.output]


def _last(segments: list[CompiledSegment], output: str) -> list[list[str]]:
    """Of each segment, the values that nothing reads after it; the output stays."""
    seen, found = {output}, []
    for segment in reversed(segments):
        found.append([name for name in segment.inputs if name not in seen])
        seen.update(segment.inputs)
    return found[::-1]

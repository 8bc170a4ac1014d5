"""A compiled segment called: what it is handed by address, and the memory it works in."""

import os
import threading
from ctypes import c_void_p, pointer
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harp.runtime.compiling import CompiledSegment
from harp.runtime.lowering import Lowering
from harp.runtime.native import Native

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Ready:
    """What the engine is handed: the network, where each thread's arena is, and what has to live as long.

    One thing, and so replaced in one step, in the middle of which no thread can fork.
    """

    network: Any
    places: Any
    arenas: list[NDArray[Any]]
    kept: Any
    divisible: bool  # whether a batch may still ask for blocks


class Caller:
    """A compiled segment with its arenas, one a thread that works by itself, and the dense shapes of what it makes.

    For one call at a time. Kinds of it take and make tensors or arrays, whose addresses they put into `_into` and
    `_outof`.

    Images run one by one until a batch comes that is large enough for blocks, which run as many images as a vector has
    floats side by side. Only then is the segment divided into programs for blocks, which halves the time to load.
    """

    def __init__(self, compiled: CompiledSegment, lowering: Lowering, build: Native, threads: int):
        self.compiled, self.build, self.run, self.threads = compiled, build, build.run, threads
        self._into, self._outof = (c_void_p * len(compiled.inputs))(), (c_void_p * len(compiled.outputs))()
        self._ready = self._settled(1)
        self._sizes = compiled.input_sizes()
        self._shapes = {name: self._dense(lowering.shapes[name], lowering.batch) for name in compiled.outputs}
        self._tail = next(iter(self._shapes.values()))[1:]

    def _settled(self, count: int) -> Ready:
        """The structure and arenas for the programs there are; made again once there are those for blocks."""
        for part in (self.compiled.whole, self.compiled.head, self.compiled.tail):
            if part is not None:
                self.build.check(part.program)
        network, kept = self.compiled.network()
        arenas = [aligned(self.compiled.cells(), self.build.cell) for _ in range(count)]
        places = (c_void_p * count)(*(arena.ctypes.data for arena in arenas))
        # Once there are blocks, the engine itself chooses between them and single images.
        divisible = bool(self.compiled.late) and self.compiled.tail is None
        return Ready(pointer(network), places, arenas, kept, divisible)

    def _run(self, images: int) -> None:
        ready, arenas = self._ready, min(self.threads, images)
        if ready.divisible and images >= self.compiled.block:
            with _dividing.lock:  # callers of several threads share what is compiled
                if self.compiled.late and self.compiled.tail is None:
                    self.compiled.divide()
            ready = self._ready = self._settled(arenas)
        elif arenas > len(ready.arenas):
            ready = self._ready = self._settled(arenas)
        self.run(ready.network, self._into, self._outof, images, self.threads, ready.places)

    @staticmethod
    def _dense(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
        return (shape[0] // batch, *shape[1:])


class _Dividing:
    def __init__(self) -> None:
        self.lock = threading.Lock()


_dividing = _Dividing()
# In a child of a fork the thread that held the lock is not there to release it.
os.register_at_fork(after_in_child=_dividing.__init__)  # type: ignore[misc]


def aligned(count: int, size: int = 4) -> NDArray[Any]:
    """Zeros of so many bytes each (4 or 2) that begin where a cache line does."""
    whole = np.zeros(count + 64 // size, np.float32 if size == 4 else np.float16)
    skip = -whole.ctypes.data % 64 // size
    return whole[skip : skip + count]

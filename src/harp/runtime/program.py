"""A list of steps with everything they point to kept alive."""

import ctypes
from collections.abc import Sequence
from ctypes import addressof
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harp.runtime.layers import Layer
from harp.runtime.memory import Arena, Planes
from harp.runtime.native import ACTS, KINDS, Buffer, Program, Step

FLOAT_MAX = float(np.finfo(np.float32).max)


class Steps:
    """Collects steps over named planes; `done()` makes the program of them."""

    def __init__(self, images: int):
        self.images = images
        self.planes: dict[str, Planes] = {}
        self.slack = 64
        self._rows: list[tuple[dict[str, Any], dict[str, NDArray[Any]]]] = []
        self._until: dict[str, int] = {}
        self._from: dict[str, int] = {}

    def add(self, kind: str, output: str = "", inputs: Sequence[str] = (), /, **fields: Any) -> None:
        """One more step; numbers are fields of `Step`, arrays are pointed to."""
        arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        numbers = {name: value for name, value in fields.items() if name not in arrays}
        row = {"kind": KINDS.index(kind), "_in": inputs[:1], "_other": inputs[1:2], "_out": output, **numbers}
        for name in (*inputs, *([output] if output else [])):
            self._until[name] = len(self._rows)
        if output:
            self._from.setdefault(output, len(self._rows))
        self._rows.append((row, arrays))

    def offset(self, name: str) -> Planes:
        """The planes of that name, whose distances are fixed once every reader has asked for its room."""
        return self.planes[name]

    def done(self) -> "Compiled":
        """The program; planes get their places here."""
        arena = Arena()
        for place in range(len(self._rows)):
            for name, first in self._from.items():
                if first == place:
                    arena.take(self.planes[name])
            for name, last in self._until.items():
                if last == place and name in self._from:
                    arena.give(self.planes[name])
        size = arena.settle(self.slack)
        numbers = {name: number for number, name in enumerate(self.planes)}
        buffers = (Buffer * len(numbers))(
            *(Buffer(p.at, p.channels, p.height, p.width, p.pitch, p.plane) for p in self.planes.values())
        )
        steps = (Step * len(self._rows))(*(self._step(row, arrays, numbers) for row, arrays in self._rows))
        return Compiled(buffers, steps, self.images, size, [list(arrays.values()) for _, arrays in self._rows])

    def _step(self, row: dict[str, Any], arrays: dict[str, NDArray[Any]], numbers: dict[str, int]) -> Step:
        ends = {name: numbers[of[0]] if of else -1 for name, of in (("input", row["_in"]), ("other", row["_other"]))}
        plain = {name: value for name, value in row.items() if not name.startswith("_")}
        output = numbers.get(row["_out"], -1)
        return Step(**plain, **ends, output=output, **{name: array.ctypes.data for name, array in arrays.items()})


class Compiled:
    """A program and the arrays it points to."""

    def __init__(self, buffers: Any, steps: Any, images: int, size: int, kept: list[Any]):
        self._kept = (buffers, steps, kept)
        self.size = size  # elements of its arena
        self.program = Program(addressof(buffers), addressof(steps), len(steps), images)
        self.bytes = ctypes.sizeof(steps) + sum(array.nbytes for row in kept for array in row)


def act_fields(layer: Layer) -> dict[str, Any]:
    """A layer's activation as fields of a step; an infinite bound is the largest number, which is as good."""
    return {"act": ACTS.index(layer.act.name), "low": layer.act.low, "high": layer.act.high}

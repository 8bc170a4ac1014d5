"""A list of steps with everything they point to kept alive."""

from collections.abc import Sequence
from ctypes import addressof
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harp.runtime.layers import Layer
from harp.runtime.memory import Arena, Planes
from harp.runtime.narrowing import check_room, filled
from harp.runtime.native import ACTS, KINDS, Buffer, Program, Step

LINE = 64  # bytes


@dataclass(frozen=True)
class Views:
    """Planes made of those of another value: every `stride`-th row and column from each of `taps` on."""

    name: str
    of: str
    stride: int
    height: int
    width: int
    pitch: int
    taps: tuple[tuple[int, int], ...]

    def serves(self, wanted: "Views") -> bool:
        """Whether the views that are wanted are among these."""
        return replace(self, name=wanted.name, taps=wanted.taps) == wanted and set(wanted.taps) <= set(self.taps)


class Steps:
    """Collects steps over named planes; `done()` makes the program of them.

    `weights` that are not zero say how much memory may be asked for: `BeyondError` is raised where it is more.
    """

    def __init__(self, images: int, weights: int = 0):
        self.images, self.weights = images, weights
        self.planes: dict[str, Planes] = {}
        self.views: dict[str, list[Views]] = {}  # by the value they are of
        self.slack = 64
        self._masked = 0
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

    def mask(self, span: int, height: int, width: int, pitch: int) -> NDArray[np.int32]:
        """-1 for each of the first `span` elements of a plane that lies within its rows, 0 for the others."""
        self._masked += span
        check_room(self._masked, self.weights, "masks of planes")
        made = np.zeros(span, np.int32)
        rows = np.where(np.arange(height * pitch) % pitch < width, np.int32(-1), np.int32(0))
        made[: height * pitch] = rows[:span]
        return made

    def makes(self, name: str) -> bool:
        """Whether a step so far makes the value."""
        return name in self._from

    def done(self) -> "Compiled":
        """The program; planes get their places here."""
        arena = Arena()
        for place, (row, _) in enumerate(self._rows):
            if self._from.get(row["_out"]) == place:
                self._take(arena, row["_out"], place, row)
            for name in dict.fromkeys((*row["_in"], *row["_other"], row["_out"])):
                if self._until.get(name) == place and name in self._from:
                    arena.give(self.planes[name])
        size = arena.settle(self.slack)
        check_room(size * self.images, self.weights, "an arena")
        numbers = {name: number for number, name in enumerate(self.planes)}
        buffers = (Buffer * len(numbers))(
            *(
                filled(Buffer, **{field[0]: getattr(p, field[0]) for field in Buffer._fields_})
                for p in self.planes.values()
            )
        )
        data = _together([array for _, arrays in self._rows for array in arrays.values()])
        places = iter(data)
        steps = (Step * len(self._rows))(
            *(self._step(row, {name: next(places) for name in arrays}, numbers) for row, arrays in self._rows)
        )
        return Compiled(buffers, steps, self.images, size, data)

    def _take(self, arena: Arena, name: str, place: int, row: dict[str, Any]) -> None:
        """A place for what a step makes: that of what it adds, where nobody reads that again."""
        other = row["_other"][0] if row["_other"] and row["kind"] == KINDS.index("conv") else None
        free = other is not None and self._until[other] == place and other not in row["_in"]
        if other is not None and free and self.planes[other].kind() == self.planes[name].kind():
            arena.give(self.planes[other])
            del self._until[other]
        arena.take(self.planes[name])

    def _step(self, row: dict[str, Any], arrays: dict[str, NDArray[Any]], numbers: dict[str, int]) -> Step:
        ends = {name: numbers[of[0]] if of else -1 for name, of in (("input", row["_in"]), ("other", row["_other"]))}
        plain = {name: value for name, value in row.items() if not name.startswith("_")}
        output = numbers.get(row["_out"], -1)
        pointers = {name: array.ctypes.data for name, array in arrays.items()}
        made: Step = filled(Step, **plain, **ends, output=output, **pointers)
        return made


def _together(arrays: Sequence[NDArray[Any]]) -> list[NDArray[np.uint8]]:
    """The arrays' bytes one after the other, each from a cache line on: of much memory numpy asks for large pages."""
    ends = np.cumsum([0, *(-(-array.nbytes // LINE) * LINE for array in arrays)])
    whole = np.empty(int(ends[-1]) + LINE, np.uint8)
    skip = -whole.ctypes.data % LINE
    parts = [whole[skip + end : skip + end + array.nbytes] for end, array in zip(ends, arrays, strict=False)]
    for part, array in zip(parts, arrays, strict=True):
        part[:] = array.reshape(-1).view(np.uint8)
    return parts


class Compiled:
    """A program and the arrays it points to."""

    def __init__(self, buffers: Any, steps: Any, images: int, size: int, kept: list[Any]):
        self.steps = steps
        self._kept = (buffers, kept)
        self.size = size  # elements of its arena
        self.program = Program(addressof(buffers), addressof(steps), len(steps), images)


def act_fields(layer: Layer) -> dict[str, Any]:
    """A layer's activation as fields of a step."""
    return {"act": ACTS.index(layer.act.name), "low": layer.act.low, "high": layer.act.high}

"""How a convolution reads planes whose rows have no room for padding on their sides.

*direct*: taps left and right of the centre read the plane as it is, and their sums are shifted. *phases*: with a stride
of S every S-th row and column becomes a plane of its own (S x S views of each channel), on which the stride is 1.
*columns*: a view for every horizontal tap, already shifted, which works for any convolution and costs the copies.
*patches*: a view for every tap, for small maps with dense weights.
"""

from dataclasses import dataclass

import numpy as np

from harp.runtime.layers import Shape, Window
from harp.runtime.taps import Ints, Taps
from harp.runtime.tiling import ROW, SMALL, Machine, Tiling, Work, best, pitch_of, small_dense

# A view for every tap costs memory for each, and is never worth it where a tenth of the weights is left.
MOST, DENSEST = 64, 10


@dataclass(frozen=True)
class Reading:
    """How a convolution reads: the views it needs, (vertical, horizontal) of each, and of every tap its
    view, its row relative to the output's and its shift in columns."""

    stride: int  # of the views; 0 where the plane is read directly
    views: tuple[tuple[int, int], ...]
    view: Ints  # [kernel_h, kernel_w]
    row: Ints
    shift: Ints
    tiling: Tiling

    @property
    def before(self) -> int:
        """Columns that the leftmost tap lies left of the centre."""
        return max(0, -int(self.shift.min()))

    @property
    def after(self) -> int:
        """Columns that the rightmost tap lies right of the centre."""
        return max(0, int(self.shift.max()))

    @property
    def columns(self) -> int:
        """Lists of entries per filter: from the leftmost column to the centre, then from the rightmost."""
        return self.before + 1 + self.after

    def column(self, taps: Taps) -> Ints:
        """Which of the lists each non-zero belongs to."""
        shift = self.shift[taps.y, taps.x]
        return np.where(shift <= 0, shift + self.before, self.before + 1 + self.after - shift)


@dataclass(frozen=True)
class Task:
    """A convolution of planes `given` to planes `made`, which are halved afterwards or not, on a machine."""

    taps: Taps
    given: Shape
    made: Shape
    window: Window
    machine: Machine
    halved: bool = False

    def places(self, axis: int) -> Ints:
        """Rows (0) or columns (1) of the taps, relative to where the first output looks."""
        w = self.window
        return np.arange(w.kernel[axis]) * w.dilation[axis] - w.padding[axis]

    def way(self, stride: int, views: list[tuple[int, int]], view: Ints, row: Ints, shift: Ints) -> Reading | None:
        """The way to read so, with its cheapest tiling; None where there is none."""
        shape = np.broadcast_shapes(view.shape, row.shape, shift.shape)
        view, row, shift = (np.broadcast_to(part, shape) for part in (view, row, shift))
        tiling = self._tiling(len(views), row, shift)
        return Reading(stride, tuple(views), view, row, shift, tiling) if tiling else None

    def _tiling(self, views: int, row: Ints, shift: Ints) -> Tiling | None:
        taps = self.taps
        beside = shift[taps.y, taps.x] != 0
        work = Work(
            filters=taps.filters,
            columns=max(0, -int(shift.min())) + 1 + max(0, int(shift.max())),
            entries=len(taps.value),
            quads=taps.quad_count,
            beside=int(beside.sum()),
            aside=int(abs(shift).max()),
            channels=min(self.given[0], len(taps.value)) * max(1, views),
            reach=int(row.max() - row.min()),
            halved=self.halved,
        )
        return best(self.made[1], pitch_of(self.made[1], self.made[2], self.machine), work, self.machine)

    def copying(self, way: Reading) -> float:
        """Cycles for making the views, row by row."""
        rows = self.given[0] * len(way.views) * -(-self.given[1] // max(1, way.stride))
        return rows * ROW if way.stride else 0.0


def reading(task: Task) -> Reading | None:
    """The cheapest way to read; None where nothing is halved that way. Else there always is one."""
    found = [way for make in (_direct, _phases, _columns, _patches) if (way := make(task))]
    return min(found, key=lambda way: way.tiling.cost + task.copying(way), default=None)


def _direct(task: Task) -> Reading | None:
    x, pitches = task.places(1), [pitch_of(*shape[1:], task.machine) for shape in (task.given, task.made)]
    same = task.made[2] == task.given[2] and pitches[0] == pitches[1]
    if task.window.stride[0] != 1 or not same or max(-x.min(), x.max()) >= max(2, task.made[2]):
        return None
    return task.way(0, [], np.zeros((1, 1), np.int64), task.places(0)[:, None], x[None, :])


def _phases(task: Task) -> Reading | None:
    stride = task.window.stride[0]
    shift, phase = np.divmod(task.places(1), stride)
    # Beyond the last column of the output a view has no room for what lies there.
    narrow = -(-task.given[2] // stride) > task.made[2]
    if stride == 1 or narrow or max(-shift.min(), shift.max()) >= max(2, task.made[2]):
        return None
    row, rest = np.divmod(task.places(0), stride)
    return task.way(stride, *_views(rest, phase), row[:, None], shift[None, :])


def _columns(task: Task) -> Reading | None:
    row, rest = np.divmod(task.places(0), task.window.stride[0])
    views = _views(rest, task.places(1))
    return task.way(task.window.stride[0], *views, row[:, None], np.zeros((1, 1), np.int64))


def _patches(task: Task) -> Reading | None:
    _, height, width = task.made
    size, kernel, taps = height * pitch_of(height, width, task.machine), task.window.kernel, task.taps
    if size > SMALL or task.halved or kernel[0] * kernel[1] > MOST or DENSEST * len(taps.value) < taps.size:
        return None
    views, view = _views(task.places(0), task.places(1))
    tiling = small_dense(size, taps.places, taps.filters, task.machine)
    none = np.zeros(view.shape, np.int64)
    return Reading(task.window.stride[0], tuple(views), view, none, none, tiling)


def _views(rows: Ints, columns: Ints) -> tuple[list[tuple[int, int]], Ints]:
    """The different (row, column) pairs, and which of them each tap reads."""
    views = sorted({(int(a), int(b)) for a in rows for b in columns})
    place = {view: number for number, view in enumerate(views)}
    return views, np.array([[place[int(a), int(b)] for b in columns] for a in rows])

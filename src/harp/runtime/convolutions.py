"""How a convolution reads planes whose rows have no room for padding on their sides.

*direct*: taps left and right of the centre read the plane as it is, and their sums are shifted. *phases*: with a stride
of S every S-th row and column becomes a plane of its own (S x S views of each channel), on which the stride is 1.
*columns*: a view for every horizontal tap, already shifted, which works for any convolution and costs the copies.
"""

from dataclasses import dataclass

import numpy as np

from harp.runtime.layers import Shape, Window
from harp.runtime.taps import Ints, Taps
from harp.runtime.tiling import Machine, Tiling, Work, best, pitch_of


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


def reading(taps: Taps, given: Shape, made: Shape, window: Window, machine: Machine) -> Reading:
    """The cheapest way to read planes of `given` for planes of `made` with kernels for this machine."""
    y = np.arange(window.kernel[0]) * window.dilation[0] - window.padding[0]
    x = np.arange(window.kernel[1]) * window.dilation[1] - window.padding[1]
    found = [way for make in (_direct, _phases, _columns) if (way := make(taps, given, made, window, y, x, machine))]
    return min(found, key=lambda way: way.tiling.cost + _copying(way, given, made))


def _copying(way: Reading, given: Shape, made: Shape) -> float:
    """Cycles for making the views, row by row."""
    rows = given[0] * len(way.views) * -(-given[1] // max(1, way.stride))
    return rows * (8 + made[2] / 4) if way.stride else 0.0


def _tiling(
    taps: Taps, given: Shape, made: Shape, machine: Machine, views: int, row: Ints, shift: Ints
) -> Tiling | None:
    columns = max(0, -int(shift.min())) + 1 + max(0, int(shift.max()))
    reach = int(row.max() - row.min())
    channels = min(given[0], len(taps.value)) * max(1, views)
    aside = np.abs(shift).max() if columns > 1 else 0
    beside = len(taps.value) if aside > 1 else int((shift[taps.y, taps.x] != 0).sum())
    work = Work(taps.filters, columns, len(taps.value), taps.quad_count, beside, int(aside), channels, reach)
    return best(made[1], pitch_of(made[1], made[2], machine), work, machine, shifts=columns > 1)


def _way(
    taps: Taps,
    given: Shape,
    made: Shape,
    machine: Machine,
    stride: int,
    views: list[tuple[int, int]],
    view: Ints,
    row: Ints,
    shift: Ints,
) -> Reading | None:
    shape = np.broadcast_shapes(view.shape, row.shape, shift.shape)
    view, row, shift = (np.broadcast_to(part, shape) for part in (view, row, shift))
    tiling = _tiling(taps, given, made, machine, len(views), row, shift)
    return Reading(stride, tuple(views), view, row, shift, tiling) if tiling else None


def _direct(
    taps: Taps, given: Shape, made: Shape, window: Window, y: Ints, x: Ints, machine: Machine
) -> Reading | None:
    same = made[2] == given[2] and pitch_of(*given[1:], machine) == pitch_of(*made[1:], machine)
    if window.stride[0] != 1 or not same or max(-x.min(), x.max()) >= max(2, made[2]):
        return None
    return _way(taps, given, made, machine, 0, [], np.zeros((1, 1), np.int64), y[:, None], x[None, :])


def _phases(
    taps: Taps, given: Shape, made: Shape, window: Window, y: Ints, x: Ints, machine: Machine
) -> Reading | None:
    stride = window.stride[0]
    shift, phase = np.divmod(x, stride)
    # Beyond the last column of the output a view has no room for what lies there.
    if stride == 1 or -(-given[2] // stride) > made[2] or max(-shift.min(), shift.max()) >= max(2, made[2]):
        return None
    row, rest = np.divmod(y, stride)
    views = sorted({(int(a), int(b)) for a in rest for b in phase})
    view = np.array([[views.index((int(a), int(b))) for b in phase] for a in rest])
    return _way(taps, given, made, machine, stride, views, view, row[:, None], shift[None, :])


def _columns(
    taps: Taps, given: Shape, made: Shape, window: Window, y: Ints, x: Ints, machine: Machine
) -> Reading | None:
    stride = window.stride[0]
    row, rest = np.divmod(y, stride)
    views = sorted({(int(a), int(b)) for a in rest for b in x})
    view = np.array([[views.index((int(a), int(b))) for b in x] for a in rest])
    return _way(taps, given, made, machine, stride, views, view, row[:, None], np.zeros((1, 1), np.int64))

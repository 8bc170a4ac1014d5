"""Which non-zero weight meets which element of the planes: the lists of entries that the engine walks along."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harp.graph import Array, SparseArray
from harp.runtime.distinct import distinct
from harp.runtime.layers import Window
from harp.runtime.narrowing import narrow
from harp.runtime.native import FOUR, ONE

Ints = NDArray[np.int64]
# Lists that are read for one image come from the third cache or from memory, where every byte counts: the offset that
# is the last to fit into two of them.
FARTHEST = 2**16 - 1


@dataclass(frozen=True)
class Taps:
    """The non-zeros of a layer's weight: filter, input channel, tap (vertical, horizontal) and value of each.

    `size` counts the weight's zeros, too; `bias` has one number for each filter and zeros up to a multiple of four.
    """

    filters: int
    filter: Ints
    channel: Ints
    y: Ints
    x: Ints
    value: NDArray[np.float32]
    size: int
    bias: NDArray[np.float32]

    @staticmethod
    def of(weight: Array | SparseArray, bias: Array | SparseArray | None, window: Window, groups: int = 1) -> "Taps":
        """Of a weight [out, in / groups, kh, kw] (or [out, in]), in the order they are stored."""
        sparse = weight if isinstance(weight, SparseArray) else _nonzero(weight)
        filters, width = sparse.shape[:2]
        kh, kw = window.kernel
        rest, x = np.divmod(sparse.index, kw) if kw > 1 else (sparse.index, np.zeros(1, np.int64))
        rest, y = np.divmod(rest, kh) if kh > 1 else (rest, np.zeros(1, np.int64))
        filter_, channel = np.divmod(rest, width)
        if groups > 1:
            channel = channel + filter_ // (filters // groups) * width
        y, x = np.broadcast_to(y, filter_.shape), np.broadcast_to(x, filter_.shape)
        return Taps(filters, filter_, channel, y, x, sparse.values, math.prod(sparse.shape), _padded(bias, filters))

    def entries(
        self, offset: Ints, column: Ints, columns: int, kind: np.dtype[np.void] = ONE, parts: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.void]]:
        """Where each list begins, and the entries: one list for each filter and each of its `columns`.

        With `parts` there are so many lists for each, one after the other for all filters: of the first channels, then
        of the next.

        Odd filters are walked backwards, so that what the last filter has read is still in the first cache. `kind` is
        ONE, or SHORT where offsets lie between 0 and FARTHEST.
        """
        share = self.channel * parts // (self.channel.max(initial=0) + 1)
        group = (share * self.filters + self.filter) * columns + column
        order = np.arange(len(group))
        order = np.argsort((group << 32) + np.where(self.filter % 2, len(group) - order, order))
        entries = np.empty(len(order), kind)
        entries["offset"], entries["weight"] = narrow(offset[order], kind["offset"]), self.value[order]
        return _starts(group, parts * self.filters * columns), entries

    def quads(self, offset: Ints, column: Ints, columns: int) -> tuple[NDArray[np.int32], NDArray[np.void]]:
        """As `entries`, with lists for four filters at a time; a weight that a filter lacks is zero."""
        group = self.filter // 4 * columns + column
        low = int(offset.min(initial=0))
        narrow(offset - low, np.uint32)  # what the key has room for
        key, place = distinct((group << 32) + (offset - low))
        entries = np.zeros(len(key), FOUR)
        entries["offset"] = narrow((key & 0xFFFFFFFF) + low)
        entries["weight"][place, self.filter % 4] = self.value
        return _starts(key >> 32, -(-self.filters // 4) * columns), entries

    def dense(self, offset: Ints, together: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """How many places the taps have and their offsets; and the weights [filters / together, places, together]."""
        places, place = distinct(offset)
        weights = np.zeros((-(-self.filters // together), len(places), together), np.float32)
        weights[self.filter // together, place, self.filter % together] = self.value
        return narrow(np.concatenate([[len(places)], places])), weights

    @cached_property
    def places(self) -> int:
        """At how many places, of all channels and taps, any filter has a weight."""
        return len(distinct((self.channel * 64 + self.y) * 64 + self.x)[0])

    @cached_property
    def quad_count(self) -> int:
        """How many entries `quads` would have, counted only where they may be worth it."""
        if 4 * len(self.value) < self.size:
            return 4 * len(self.value)
        key = ((self.filter // 4 * (self.channel.max(initial=0) + 1) + self.channel) * 64 + self.y) * 64 + self.x
        return len(distinct(key)[0])


def _padded(bias: Array | SparseArray | None, filters: int) -> NDArray[np.float32]:
    made = np.zeros(filters + -filters % 4, np.float32)
    if bias is not None:
        made[:filters] = bias.dense() if isinstance(bias, SparseArray) else bias
    return made


def _nonzero(weight: Array) -> SparseArray:
    """A mask's product leaves negative zeros, which count for nothing here."""
    flat = weight.reshape(-1)
    index = np.flatnonzero(flat)
    return SparseArray(weight.shape, index, flat[index])


def _starts(group: Ints, groups: int) -> NDArray[np.int32]:
    return narrow(np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))]))

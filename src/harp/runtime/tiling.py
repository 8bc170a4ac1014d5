"""How a plane is laid out and walked along, chosen by what it would cost.

Costs are in processor cycles. Their constants were fitted to measurements of the kernels (docs/results, runtime): they
only rank plans, so a machine on which they are off runs a slower plan, never a wrong one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from harp.runtime.native import WIDTHS

# What a convolution of one image costs. A vector here is one of 64 bytes, a shorter one the share of it that it is.
LIST = 13.5  # a filter's list of entries
COLUMN = 3.4  # each further column of taps, where a filter has several
ENTRY = 1.8  # an entry, however much it meets
NEAR = 1.5  # an entry times each vector it meets, where the first cache holds what is read
FAR = 1.0  # what that costs more where only the second cache does
SHARED = 1.05  # the same for each of four filters that share what is loaded
FINISH = 7.0  # a filter's vector once it is summed: bias, activation, storing
PART = 4.0  # a filter's vector that is put aside until the next part of the channels, and taken up again
SHIFT = 3.0  # a vector of sums moved by one column
BESIDE = 0.95  # what an entry costs more a vector that is loaded beside the centre and masked, instead of a shift
# Of the kernel for small dense maps, and of copies.
STREAM = 2.6  # a vector of weights
PIXEL = 0.9  # that vector times a pixel
ROW = 20.0  # a row of a view that is copied
CACHE = 24 * 1024  # of the 32 KB of a first cache what planes may take; lists and results pass through it, too
DENSE = WIDTHS["dense"]  # the width that stands for the kernel for small dense maps
PARTS, FEWEST = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), 16  # shares of the channels, and channels of the smallest
SMALL = 16  # elements of a plane that is walked along in one go


@dataclass(frozen=True)
class Machine:
    """What the compiled engine has: floats in a vector, and vector registers."""

    lanes: int
    registers: int

    def widths(self) -> tuple[int, ...]:
        """The vector widths there are kernels for."""
        return tuple(lanes for lanes in (16, 8, 4) if lanes <= self.lanes)

    def most(self, lanes: int, width: int) -> int:
        """The longest tile, in vectors, there is a kernel for."""
        if lanes == 4 < self.lanes:
            return 4 if width < 4 else min(4, self.quads)
        return min(16, self.registers - 2) if width < 4 else self.quads

    def together(self, pixels: int) -> int:
        """Vectors of filters that the kernel for small dense maps of so many pixels takes at a time."""
        return max(1, self.registers // 2 // pixels)

    @property
    def quads(self) -> int:
        """The longest tile of the kernels for four filters."""
        return 6 if self.registers == 32 else 2


@dataclass(frozen=True)
class Tiling:
    """`tiles` tiles of `tile` vectors of `lanes`, for `width` filters at a time; if that is DENSE, of `tile` pixels.

    With more `parts` than one the channels are read in so many shares, each by all filters, so that the first cache
    holds what a tile reads.
    """

    lanes: int
    tile: int
    tiles: int
    width: int
    cost: float
    parts: int = 1

    @property
    def span(self) -> int:
        """Elements of a plane that are written, counted from its first."""
        return self.lanes * self.tile * self.tiles


def ceil_to(value: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-value // unit) * unit


def pitch_of(height: int, width: int, machine: Machine) -> int:
    """Elements from one row of a plane to the next: rows begin where vectors do, unless a plane is very small."""
    if height * width <= SMALL:
        return width
    return ceil_to(width, machine.lanes if height == 1 else min(8, machine.lanes))


@dataclass(frozen=True)
class Work:
    """A convolution's work on a plane: filters, lists and entries of all filters, alone or by fours, and its reach."""

    filters: int
    columns: int
    entries: int
    quads: int
    beside: int  # entries in other columns than the centre
    aside: int  # how many columns off the centre they are at most
    channels: int
    reach: int  # rows that a tile reads beyond its own
    halved: bool = False


def tilings(height: int, pitch: int, work: Work, machine: Machine) -> Iterator[Tiling]:
    """All ways to walk along the plane; where columns are shifted, a tile holds whole rows or the whole plane."""
    size = height * pitch
    for lanes in machine.widths():
        for width in (0, 1, 4) if work.aside == 1 else (1, 4):
            for tile in range(1, machine.most(lanes, width) + 1):
                span = lanes * tile
                if work.columns > 1 and span % pitch and span < size:
                    continue
                if work.halved and not _halves(lanes, tile, pitch, size):
                    continue
                tiles = -(-size // span)
                for parts in PARTS if width == 1 and not work.halved else (1,):
                    if parts == 1 or parts * FEWEST <= work.channels:
                        cost = _cost(lanes, tile, tiles, width, parts, pitch, work)
                        yield Tiling(lanes, tile, tiles, width, cost, parts)


def _halves(lanes: int, tile: int, pitch: int, size: int) -> bool:
    """Whether a tile holds pairs of rows, of one or two vectors, and the tiles the plane exactly."""
    pairs = pitch in (lanes, 2 * lanes) and lanes * tile % (2 * pitch) == 0
    return pairs and tile % 4 == 0 and size % (lanes * tile) == 0


def _cost(lanes: int, tile: int, tiles: int, width: int, parts: int, pitch: int, work: Work) -> float:
    footprint = 4 * work.channels / parts * (lanes * tile + work.reach * pitch)
    load = NEAR + FAR * min(1.0, max(0.0, (footprint - CACHE) / (2 * CACHE)))
    vector = max(0.3, lanes * 4 / 64) * tile
    lists = work.filters * (LIST + FINISH * vector + (parts - 1) * (LIST + PART * vector))
    if width == 4:
        shifts = work.filters * (work.columns - 1)
        return tiles * (lists + shifts * SHIFT * vector + work.quads * (ENTRY + 4 * SHARED * vector))
    if width == 0:
        return tiles * (lists + work.entries * (ENTRY + load * vector) + work.beside * BESIDE * vector)
    shifts = min(parts * work.filters * (work.columns - 1), work.beside)
    return tiles * (lists + shifts * (COLUMN + SHIFT * vector) + work.entries * (ENTRY + load * vector))


@lru_cache(1024)
def best(height: int, pitch: int, work: Work, machine: Machine) -> Tiling | None:
    """The cheapest of them; None where the kernels' tiles hold no whole row."""
    return min(tilings(height, pitch, work, machine), key=lambda tiling: tiling.cost, default=None)


def small_dense(size: int, taps: int, filters: int, machine: Machine) -> Tiling:
    """How the kernel for small dense maps walks along a plane of so many elements."""
    tile = min(ceil_to(size, 4), 16 if machine.registers == 32 else 12)
    tile = ceil_to(-(-size // -(-size // tile)), 4)
    tiles, vectors = -(-size // tile), ceil_to(filters, machine.together(tile) * machine.lanes) // machine.lanes
    share = machine.lanes * 4 / 64
    cost = tiles * (vectors * taps * (STREAM * share + PIXEL * tile) + filters * (LIST + FINISH * tile / 16))
    return Tiling(1, tile, tiles, DENSE, cost)


def block_cost(times: int, piece: int, entries: float, filters: int, lanes: int, width: int = 1) -> float:
    """Cycles per image of a convolution on a block of images, `piece` pixels and `width` filters at a time."""
    load = NEAR + FAR if width == 1 else 4 * SHARED
    return times * (filters * (LIST + FINISH * piece) + entries * (ENTRY + piece * load)) / lanes


def linear_cost(entries: int, filters: int) -> float:
    """Cycles of a linear layer on one image."""
    return filters * 2 * LIST + entries * ENTRY

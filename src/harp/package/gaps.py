"""Positions as Rice-coded gaps, bit for bit as docs/format.md says: a unary part, then the gaps' low bits.

A gap is the number of zeros before a non-zero. Its `low` lowest bits are stored as they are, the rest in unary: so many
zero bits, then a one (Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979). With `low` 0 the
unary part is the bitmask itself, up to its last one, so that no coding of its own is needed for denser tensors.
"""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from harp.errors import HarpError

Positions = NDArray[numpy.int64]
Bytes = NDArray[numpy.uint8]

MOST_LOW = 24  # with a shift of up to 7 more bits a gap still lies within one 32-bit read


@dataclass(frozen=True)
class Code:
    """The length of a coded list: `count` positions, `high` bits of unary part, `low` low bits a gap."""

    count: int
    low: int
    high: int

    @property
    def bytes(self) -> int:
        """How long it is, each of the two parts filled up to whole bytes."""
        return _bytes(self.high) + _bytes(self.count * self.low)


def encode(index: Positions) -> tuple[Code, bytes]:
    """The shortest coding of strictly ascending positions, and its bytes."""
    gaps = numpy.diff(index, prepend=-1) - 1
    code = _shortest(gaps)
    high = numpy.zeros(code.high, numpy.uint8)
    high[numpy.cumsum((gaps >> code.low) + 1) - 1] = 1
    low = gaps[:, None] >> numpy.arange(code.low) & 1
    return code, _packed(high) + _packed(low.astype(numpy.uint8))


def decode(code: Code, data: Bytes, size: int) -> Positions:
    """The positions, strictly ascending and below `size`; raises `HarpError` where `data` codes no such list.

    `data` is `code.bytes` long. Nothing larger than a few times the list and `data` is allocated.
    """
    if not 0 <= code.count <= code.high or code.low not in range(MOST_LOW + 1):
        raise HarpError(f"its index is impossible: {code}")
    if len(data) != code.bytes:
        raise HarpError(f"its index ends early: {code.bytes:,} bytes expected, {len(data):,} found")
    border = _bytes(code.high)
    ones = numpy.flatnonzero(numpy.unpackbits(data[:border], bitorder="little"))
    # The last bit of the unary part is a one, and the bits that fill up the last byte are zeros.
    if len(ones) != code.count or code.high != (ones[-1] + 1 if code.count else 0):
        raise HarpError(f"its index does not hold {code.count:,} positions in {code.high:,} bits")
    index = ones
    if code.low:
        order = numpy.arange(code.count)
        index = ((ones - order) << code.low) + numpy.cumsum(_low(code, data[border:])) + order
    if code.count and index[-1] >= size:
        raise HarpError(f"its index leaves the tensor: position {index[-1]:,} of {size:,}")
    return index


def _shortest(gaps: Positions) -> Code:
    longest = int(gaps.max(initial=0)).bit_length()
    candidates = (Code(len(gaps), low, len(gaps) + int((gaps >> low).sum())) for low in range(longest + 1))
    return min((code for code in candidates if code.low <= MOST_LOW), key=lambda code: code.bytes)


def _low(code: Code, data: Bytes) -> Positions:
    """The gaps' low bits, [count]; eight gaps are `low` whole bytes, so the j-th of each eight is one strided read."""
    if (used := code.count * code.low % 8) and data[-1] >> used:
        raise HarpError("its index has bits after its end")
    groups = _bytes(code.count)
    padded = numpy.zeros(groups * code.low + 4, numpy.uint8)
    padded[: len(data)] = data
    values = numpy.empty((groups, 8), numpy.int64)
    for j in range(8):
        byte, shift = divmod(j * code.low, 8)
        words = numpy.ndarray(groups, "<u4", padded, byte, (code.low,))
        values[:, j] = words >> shift & (1 << code.low) - 1
    return values.reshape(-1)[: code.count]


def _packed(bits: Bytes) -> bytes:
    return numpy.packbits(bits, bitorder="little").tobytes()


def _bytes(bits: int) -> int:
    return -(-bits // 8)

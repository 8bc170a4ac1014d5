"""How large a package is, part by part, beside the least any code of its non-zeros would need."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from harp.graph import BFLOAT16, FLOATS, Array, SparseArray, stored
from harp.package.codec import Coding, Entry, kind_of


@dataclass(frozen=True)
class TensorSize:
    """A tensor's bytes in the file, index and values apart, and its own bound; `nonzeros` of all its values."""

    name: str
    shape: tuple[int, ...]
    nonzeros: int
    index: int
    values: int
    bound: float


@dataclass(frozen=True)
class Sizes:
    """All bytes of the file, by part (sections and `header`) and by tensor."""

    parts: Mapping[str, int]
    tensors: tuple[TensorSize, ...]

    @property
    def bytes(self) -> int:
        """The file's length."""
        return sum(self.parts.values())

    @property
    def bound(self) -> float:
        """Bytes of sum log2 C(n, k) + b k over the weights, b bits a stored value, and all other tensors as they are.

        Weights are floating-point tensors of two axes or more, n values of which k are not zero. No code for masks and
        values without structure is shorter on average.
        """
        return sum(tensor.bound for tensor in self.tensors)


def tensor_size(entry: Entry, tensor: Array | SparseArray) -> TensorSize:
    """The size of a decoded tensor."""
    n, k = prod(entry.shape), _nonzeros(tensor)
    bound = float(n * kind_of(entry.dtype).itemsize)
    if len(entry.shape) > 1 and entry.dtype in FLOATS:
        bound = _log2_choose(n, k) / 8 + k * kind_of(entry.coding.stored).itemsize
    index, values = _stored(entry.coding, n)
    if entry.scales is not None and entry.axis is not None:
        more = _stored(entry.scales, entry.shape[entry.axis])
        index, values = index + more[0], values + more[1]
    return TensorSize(entry.name, entry.shape, k, index, values, bound)


def _stored(coding: Coding, size: int) -> tuple[int, int]:
    width = kind_of(coding.stored).itemsize
    return (0, size * width) if coding.code is None else (coding.code.bytes, coding.code.count * width)


def _nonzeros(tensor: Array | SparseArray) -> int:
    values = stored(tensor)
    # Of the bits of a number all but its sign: a negative zero is one.
    return int(np.count_nonzero(values.view(np.uint16) & 0x7FFF if values.dtype == BFLOAT16 else values))


def _log2_choose(n: int, k: int) -> float:
    # Imported late, as in export: SciPy takes half a second.
    from scipy.special import gammaln

    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)) / math.log(2)

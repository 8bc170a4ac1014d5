"""Tensors out of their bytes in sections, bit for bit: every value, or only non-zeros; as arrays, without PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from harp.errors import HarpError
from harp.graph import BFLOAT16, Array, SparseArray
from harp.package import gaps

# Each dtype has a section of its own, by its PyTorch name; these are the names safetensors has for them.
DTYPES: Mapping[str, str] = {
    "float64": "F64",
    "int64": "I64",
    "float32": "F32",
    "int32": "I32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
# What the weights of a package may be stored in, by the names that a manifest and users have for it.
STORED: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


@dataclass(frozen=True)
class Coding:
    """How numbers are stored: of which dtype, and where only those of a `code` are, the others being +0.0."""

    stored: str
    code: gaps.Code | None = None


@dataclass(frozen=True)
class Entry:
    """A tensor of the file. `axis` and `scales` are those of int8: one scale, itself coded, for each output channel."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: Coding
    axis: int | None = None
    scales: Coding | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)


def kind_of(section: str) -> "np.dtype[Any]":
    """The numbers of a section; those that are no tensor's are bytes."""
    if section not in DTYPES:
        return np.dtype(np.uint8)
    return BFLOAT16 if section == "bfloat16" else np.dtype(section)


class Reader:
    """Sections as they are used up, front to back; each is an array of its own dtype."""

    def __init__(self, sections: Mapping[str, Array]) -> None:
        self.sections = sections
        self.used = dict.fromkeys(sections, 0)

    def take(self, section: str, count: int) -> Array:
        """The next `count` numbers; raises `HarpError` where fewer are left."""
        begin = self.used.get(section, 0)
        left = len(self.sections[section]) - begin if section in self.sections else 0
        if not 0 <= count <= left:
            raise HarpError(f"it needs {count:,} more numbers of the section {section}, which has {left:,}")
        if count == 0:
            return np.empty(0, kind_of(section))
        self.used[section] = begin + count
        return self.sections[section][begin : begin + count]

    def left(self) -> str:
        """A sentence on the numbers that no tensor took; empty where there are none."""
        for name, tensor in self.sections.items():
            if count := len(tensor) - self.used[name]:
                return f"the section {name} has {count:,} numbers that belong to no tensor"
        return ""


def decode(entry: Entry, reader: Reader) -> Array | SparseArray:
    """The tensor; sparse where fewer than half of its values are stored. Raises `HarpError` for damaged bytes.

    Values that were not narrowed share memory with the reader's sections.
    """
    scales = None
    if entry.scales is not None and entry.axis is not None:
        scales = _take(entry.scales, (entry.shape[entry.axis],), reader)
    found = _take(entry.coding, entry.shape, reader)
    if entry.coding.stored == entry.dtype:
        return found
    few = found if isinstance(found, SparseArray) else _every(found)
    if scales is None or entry.axis is None:
        values = widened(few.values)
    else:
        values = scaled(few, scales.dense() if isinstance(scales, SparseArray) else scales, entry.axis)
    return SparseArray(few.shape, few.index, values) if isinstance(found, SparseArray) else values.reshape(entry.shape)


def widened(values: Array) -> Array:
    """The numbers in float32, exactly."""
    if values.dtype == BFLOAT16:
        bits = values.view(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32)
    with np.errstate(invalid="ignore"):  # a NaN stays one
        return values.astype(np.float32)


def scaled(weight: SparseArray, scales: Array, axis: int) -> Array:
    """The values an int8 weight stands for: each times its output channel's scale, rounded to float32 once, [k]."""
    channel = weight.index // prod(weight.shape[axis + 1 :]) % weight.shape[axis]
    with np.errstate(all="ignore"):
        made: Array = weight.values.astype(np.float32) * scales[channel]
    return made


def _take(coding: Coding, shape: tuple[int, ...], reader: Reader) -> Array | SparseArray:
    code, size = coding.code, prod(shape)
    if code is None:
        return reader.take(coding.stored, size).reshape(shape)
    data, values = reader.take("index", code.bytes), reader.take(coding.stored, code.count)
    few = SparseArray(shape, gaps.decode(code, data, size), values)
    return few if 2 * code.count < size else few.dense()


def _every(array: Array) -> SparseArray:
    return SparseArray(array.shape, np.arange(array.size), array.reshape(-1))

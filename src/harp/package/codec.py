"""A tensor as bytes in sections and back, bit for bit: every value, or only non-zeros, whichever is shorter."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from harp.errors import HarpError, choices
from harp.graph import Sparse
from harp.package import gaps
from harp.package.precision import narrowed, scaled

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
_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


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


class Writer:
    """Sections as they grow: bytes by section name."""

    def __init__(self) -> None:
        self.sections: dict[str, list[bytes]] = {}

    def put(self, section: str, data: bytes) -> None:
        self.sections.setdefault(section, []).append(data)

    def whole(self) -> dict[str, bytes]:
        """The sections that are not empty."""
        joined = {name: b"".join(parts) for name, parts in self.sections.items()}
        return {name: data for name, data in joined.items() if data}


class Reader:
    """Sections as they are used up, front to back; each is a tensor of its own dtype."""

    def __init__(self, sections: Mapping[str, Tensor]) -> None:
        self.sections = sections
        self.used = dict.fromkeys(sections, 0)

    def take(self, section: str, count: int) -> Tensor:
        """The next `count` numbers; raises `HarpError` where fewer are left."""
        begin = self.used.get(section, 0)
        left = len(self.sections[section]) - begin if section in self.sections else 0
        if not 0 <= count <= left:
            raise HarpError(f"it needs {count:,} more numbers of the section {section}, which has {left:,}")
        if count == 0:
            return torch.empty(0, dtype=torch.uint8 if section == "index" else getattr(torch, section))
        self.used[section] = begin + count
        return self.sections[section][begin : begin + count]

    def left(self) -> str:
        """A sentence on the numbers that no tensor took; empty where there are none."""
        for name, tensor in self.sections.items():
            if count := len(tensor) - self.used[name]:
                return f"the section {name} has {count:,} numbers that belong to no tensor"
        return ""


def encode(name: str, tensor: Tensor | Sparse, writer: Writer, lossy: torch.dtype, axis: int | None) -> Entry:
    """The entry of a tensor whose bytes `writer` got; `axis` (None: keep all bits) lets float32 become `lossy`.

    Raises `HarpError` for a dtype the format does not have, a `Sparse` that is none, and weights `lossy` cannot hold.
    """
    values, shape = tensor.values if isinstance(tensor, Sparse) else tensor, tuple(tensor.shape)
    dtype = str(values.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise HarpError(f"{name} is {dtype}, which a package cannot hold; {choices(dtype, DTYPES)}")
    if isinstance(tensor, Sparse) and not _sound(tensor):
        raise HarpError(f"{name} is not a sparse tensor: its index must ascend within {prod(shape):,} positions")
    if not values.dtype.is_floating_point:
        return Entry(name, dtype, shape, _dense(tensor.dense() if isinstance(tensor, Sparse) else tensor, writer))
    few, scales, coded = _nonzeros(tensor), None, None
    if dtype == "float32" and lossy != torch.float32 and axis is not None:
        few, scales = narrowed(name, few, lossy, axis)
    if scales is not None:
        coded = _smaller(_nonzeros(scales), writer)
    return Entry(name, dtype, shape, _smaller(few, writer), None if coded is None else axis, coded)


def decode(entry: Entry, reader: Reader) -> Tensor | Sparse:
    """The tensor; `Sparse` where fewer than half of its values are stored. Raises `HarpError` for damaged bytes.

    Values that were not narrowed share memory with the reader's sections.
    """
    scales = None
    if entry.scales is not None and entry.axis is not None:
        scales = _take(entry.scales, (entry.shape[entry.axis],), reader)
    found = _take(entry.coding, entry.shape, reader)
    if entry.coding.stored == entry.dtype:
        return found
    few = found if isinstance(found, Sparse) else _every(found)
    if scales is None or entry.axis is None:
        values = few.values.to(torch.float32)
    else:
        values = scaled(few, scales.dense() if isinstance(scales, Sparse) else scales, entry.axis)
    return Sparse(few.shape, few.index, values) if isinstance(found, Sparse) else values.view(entry.shape)


def _smaller(few: Sparse, writer: Writer) -> Coding:
    code, index = gaps.encode(few.index.numpy())
    if len(index) + len(few.values) * few.values.itemsize >= prod(few.shape) * few.values.itemsize:
        return _dense(few.dense(), writer)
    writer.put("index", index)
    return Coding(_dense(few.values, writer).stored, code)


def _dense(tensor: Tensor, writer: Writer) -> Coding:
    stored = str(tensor.dtype).removeprefix("torch.")
    writer.put(stored, bytes(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data))
    return Coding(stored)


def _take(coding: Coding, shape: tuple[int, ...], reader: Reader) -> Tensor | Sparse:
    code, size = coding.code, prod(shape)
    if code is None:
        return reader.take(coding.stored, size).view(shape)
    data, values = reader.take("index", code.bytes), reader.take(coding.stored, code.count)
    few = Sparse(shape, torch.from_numpy(gaps.decode(code, data.numpy(), size)), values)
    return few if 2 * code.count < size else few.dense()


def _nonzeros(tensor: Tensor | Sparse) -> Sparse:
    """The positions of all that is not +0.0 bit for bit, and their values."""
    flat = (tensor.values if isinstance(tensor, Sparse) else tensor).detach().cpu().contiguous().view(-1)
    kept = flat.view(_BITS[flat.itemsize]).nonzero().view(-1)
    return Sparse(tuple(tensor.shape), tensor.index.cpu()[kept] if isinstance(tensor, Sparse) else kept, flat[kept])


def _every(tensor: Tensor) -> Sparse:
    return Sparse(tuple(tensor.shape), torch.arange(tensor.numel()), tensor.reshape(-1))


def _sound(few: Sparse) -> bool:
    index = few.index
    if index.dtype != torch.int64 or index.ndim != 1 or index.shape != few.values.shape:
        return False
    inside = not len(index) or (index[0] >= 0 and index[-1] < prod(few.shape))
    return bool(inside) and bool((index.diff() > 0).all())

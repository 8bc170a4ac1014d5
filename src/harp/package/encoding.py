"""A tensor as bytes in sections, bit for bit: every value, or only non-zeros, whichever is shorter."""

from math import prod

import torch
from torch import Tensor

from harp.errors import HarpError, choices
from harp.graph import Sparse
from harp.package import gaps
from harp.package.codec import DTYPES, Coding, Entry
from harp.package.precision import narrowed

_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


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


def _nonzeros(tensor: Tensor | Sparse) -> Sparse:
    """The positions of all that is not +0.0 bit for bit, and their values."""
    flat = (tensor.values if isinstance(tensor, Sparse) else tensor).detach().cpu().contiguous().view(-1)
    kept = flat.view(_BITS[flat.itemsize]).nonzero().view(-1)
    return Sparse(tuple(tensor.shape), tensor.index.cpu()[kept] if isinstance(tensor, Sparse) else kept, flat[kept])


def _sound(few: Sparse) -> bool:
    index = few.index
    if index.dtype != torch.int64 or index.ndim != 1 or index.shape != few.values.shape:
        return False
    inside = not len(index) or (index[0] >= 0 and index[-1] < prod(few.shape))
    return bool(inside) and bool((index.diff() > 0).all())

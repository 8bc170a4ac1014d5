"""A reader of packages written from docs/format.md alone: slow, standard library only, nothing of harp."""

import hashlib
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

WIDTHS = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}
WIDTHS |= {"int8": 1, "uint8": 1, "bool": 1, "index": 1}


class File:
    """`about`, `graph`, `shapes` and, as bytes, `tensors` of a package."""

    def __init__(self, path: Path):
        data = path.read_bytes()
        start = 8 + struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:start])
        metadata = header.pop("__metadata__")
        assert metadata["format"] == "harp.package"
        assert metadata["version"].split(".")[0] == "1"
        spans = {name: [start + offset for offset in entry["data_offsets"]] for name, entry in header.items()}
        self.sections = {name: data[begin:end] for name, (begin, end) in spans.items()}
        assert hashlib.sha256(data[:start]).digest() == self.sections.pop("seal")
        for name, section in self.sections.items():
            assert hashlib.sha256(section).hexdigest() == metadata[f"sha256.{name}"]
        document = json.loads(zlib.decompress(self.sections.pop("manifest")))
        self.about, self.graph = document["about"], document["graph"]
        self.shapes = {entry["name"]: entry["shape"] for entry in document["tensors"]}
        self.tensors = {entry["name"]: self._tensor(entry) for entry in document["tensors"]}
        assert not any(self.sections.values())

    def _tensor(self, entry: dict[str, Any]) -> bytes:
        dtype, shape = entry["dtype"], entry["shape"]
        stored = entry.get("stored", dtype)
        scales: list[bytes] = []
        if stored == "int8" and dtype == "float32":
            scales = self._numbers(entry["scales"], "float32", shape[entry["axis"]])
        raw = self._numbers(entry, stored, math.prod(shape))
        if stored == dtype:
            return b"".join(raw)
        if stored == "bfloat16":
            return b"".join(b"\0\0" + value for value in raw)
        if stored == "float16":
            return b"".join(struct.pack("<f", *struct.unpack("<e", value)) for value in raw)
        inner, outputs = math.prod(shape[entry["axis"] + 1 :]), shape[entry["axis"]]
        numbers = [struct.unpack("<b", value)[0] for value in raw]
        # A byte times a float is exact as a double, so that packing is the one rounding.
        scale = [struct.unpack("<f", value)[0] for value in scales]
        return b"".join(struct.pack("<f", q * scale[i // inner % outputs]) for i, q in enumerate(numbers))

    def _numbers(self, entry: dict[str, Any], dtype: str, size: int) -> list[bytes]:
        width = WIDTHS[dtype]
        if "sparse" not in entry:
            return self._take(dtype, size)
        count, low, high = (entry["sparse"][key] for key in ("count", "low", "high"))
        length = (high + 7) // 8 + (count * low + 7) // 8
        numbers = [bytes(width)] * size
        places = positions(b"".join(self._take("index", length)), count, low, high)
        for place, value in zip(places, self._take(dtype, count), strict=True):
            numbers[place] = value
        return numbers

    def _take(self, section: str, count: int) -> list[bytes]:
        width, data = WIDTHS[section], self.sections.get(section, b"")
        assert len(data) >= count * width
        self.sections[section] = data[count * width :]
        return [data[i * width : (i + 1) * width] for i in range(count)]


def positions(data: bytes, count: int, low: int, high: int) -> list[int]:
    """The positions that section 4 of the document codes."""
    border = (high + 7) // 8
    unary, rest = ([byte >> i & 1 for byte in part for i in range(8)] for part in (data[:border], data[border:]))
    found, at = [], -1
    for i in range(count):
        above = unary.index(1)
        unary = unary[above + 1 :]
        at += 1 + (above << low) + sum(bit << j for j, bit in enumerate(rest[i * low : (i + 1) * low]))
        found.append(at)
    return found

"""Sections of bytes as one safetensors file: a digest for each in the header, and a seal over the header at the end.

The seal covers the header and so every digest, and these cover all the rest: it names the file's whole content.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harp.errors import HarpError
from harp.graph import Array
from harp.package.codec import DTYPES, kind_of
from harp.package.foreign import looks_like
from harp.package.strict import dumps, loads, record, short, whole

FORMAT, VERSION = "harp.package", "1.0"
HEADER = 2**16  # a header names at most thirteen sections, in about 2 KB
SEAL = 32
_ENTRY = {"dtype": str, "shape": list, "data_offsets": list}
# Wide numbers first, so that each section begins at a multiple of its item's size.
_KINDS = {**DTYPES, "index": "U8", "manifest": "U8", "seal": "U8"}


@dataclass(frozen=True)
class Contents:
    """A file's bytes, and where in them each section lies; `start` is where the header ends."""

    buffer: bytearray
    start: int
    spans: Mapping[str, tuple[int, int]]
    digests: Mapping[str, str]

    @staticmethod
    def of(data: bytes) -> "Contents":
        """The sections of a file that is in memory; see `load`."""
        return Contents(bytearray(data), *_frame(data[: 8 + HEADER], len(data)))

    @property
    def seal(self) -> str:
        """The SHA-256 of length field and header, in hexadecimal."""
        return hashlib.sha256(memoryview(self.buffer)[: self.start]).hexdigest()

    def faults(self) -> list[str]:
        """Each part whose checksum is wrong, in a sentence; empty where the file is as it was written."""
        if self.seal != bytes(self.bytes("seal")).hex():
            return ["it is damaged: the header does not match the seal"]
        named = self.digests.items()
        wrong = [name for name, digest in named if hashlib.sha256(self.bytes(name)).hexdigest() != digest]
        return [f"it is damaged: the section {name} does not match its checksum" for name in wrong]

    def bytes(self, name: str) -> memoryview:
        begin, end = self.spans[name]
        return memoryview(self.buffer)[begin:end]

    def arrays(self) -> dict[str, Array]:
        """The sections that hold numbers, as arrays over the file's own bytes."""
        found = {}
        for name, (begin, end) in self.spans.items():
            if name not in ("manifest", "seal"):
                kind = kind_of(name)
                count = (end - begin) // kind.itemsize
                found[name] = np.frombuffer(self.buffer, kind, count, begin)
        if "bool" in found and int(found["bool"].view(np.uint8).max()) > 1:
            raise HarpError("its section bool holds bytes other than 0 and 1")
        return found


def pack(sections: Mapping[str, bytes]) -> bytes:
    """The file's bytes; the order in which `sections` come has no effect on them."""
    names = [name for name in _KINDS if sections.get(name)]
    metadata = {"format": FORMAT, "version": VERSION}
    metadata |= {f"sha256.{name}": hashlib.sha256(sections[name]).hexdigest() for name in names}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in [*names, "seal"]:
        begin, end = end, end + (SEAL if name == "seal" else len(sections[name]))
        header[name] = {"dtype": _KINDS[name], "shape": [(end - begin) // _width(name)], "data_offsets": [begin, end]}
    text = dumps(header)
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text
    return b"".join([start, *(sections[name] for name in names), hashlib.sha256(start).digest()])


def load(path: Path) -> Contents:
    """The file's bytes and sections; checksums are left to `Contents.faults`.

    Raises `HarpError`, before more than the header is read, for what is no package, and for a later version's.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise HarpError(f"it is {'a folder' if stat.S_ISDIR(mode) else 'a device'}; expected a file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            frame = _frame(file.read(8 + HEADER), size)
            file.seek(0)
            buffer = bytearray(size)
            if file.readinto(buffer) != size:
                raise HarpError("it changed while it was read")
    except FileNotFoundError:
        raise HarpError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise HarpError(f"it cannot be read: {error}") from None
    return Contents(buffer, *frame)


def _frame(head: bytes, size: int) -> tuple[int, dict[str, tuple[int, int]], dict[str, str]]:
    """Where the header of a file of `size` bytes ends, its sections, their digests; `head` holds all of the header."""
    start = 8 + int.from_bytes(head[:8], "little")
    if not (head[8:9] == b"{" and start <= 8 + HEADER and start + SEAL <= size):
        raise HarpError(f"it is no harp package but {looks_like(head[:512], size)}")
    header = loads(head[8:start], "its header")
    metadata = header.pop("__metadata__", None) if type(header) is dict else None
    if type(metadata) is not dict or metadata.get("format") != FORMAT:
        raise HarpError(f"it is no harp package but {looks_like(head[:512], size)}")
    _check_version(metadata.get("version"))
    spans = _spans(header, start, size)
    digests = {name: str(metadata.get(f"sha256.{name}")) for name in spans if name != "seal"}
    if metadata.keys() != {"format", "version", *(f"sha256.{name}" for name in digests)} or "manifest" not in spans:
        raise HarpError("its header does not name a manifest and one checksum for each section")
    return start, spans, digests


def _check_version(version: object) -> None:
    found = re.fullmatch(r"([0-9]{1,4})\.[0-9]{1,4}", version) if isinstance(version, str) else None
    if found is None:
        raise HarpError(f"its format version is {short(version)}; expected one such as {VERSION}")
    if found[1] != VERSION.split(".")[0]:
        raise HarpError(f"its format version is {version}, and this harp reads {VERSION.split('.')[0]}.x; update harp")


def _spans(header: Mapping[str, Any], start: int, size: int) -> dict[str, tuple[int, int]]:
    """Where each section lies in the file: one after the other, without gaps, the seal last."""
    spans, at = {}, start
    for name, value in header.items():
        if name not in _KINDS:
            raise HarpError(f"its header has an unknown section, {short(name)}")
        end = start + _end(name, value, at - start)
        if at % _width(name):
            raise HarpError(f"its section {name} does not begin at a multiple of its numbers' size")
        spans[name] = (at, end)
        at = end
    if at != size:
        raise HarpError(f"it is {size:,} bytes long, but its header describes {at:,}; is it cut short?")
    if list(spans)[-1:] != ["seal"] or spans["seal"][0] != size - SEAL:
        raise HarpError(f"its last section is not a seal of {SEAL} bytes")
    return spans


def _end(name: str, value: Any, begin: int) -> int:
    """Where the section ends that has to begin at `begin`."""
    entry = record(value, f"the section {name}", _ENTRY)
    offsets = whole(entry["data_offsets"], f"the offsets of {name}", 0, 2**62)
    if len(offsets) != 2 or offsets[0] != begin or offsets[1] <= begin or entry["dtype"] != _KINDS[name]:
        raise HarpError(f"its section {name} does not lie where it should, or is of the wrong kind")
    count, rest = divmod(offsets[1] - begin, _width(name))
    if rest or whole(entry["shape"], f"the shape of {name}", 0, 2**62) != (count,):
        raise HarpError(f"its section {name} is not {short(entry['shape'])} numbers long")
    return offsets[1]


def _width(name: str) -> int:
    return kind_of(name).itemsize

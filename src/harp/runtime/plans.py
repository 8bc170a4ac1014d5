"""A compiled segment as a file, for programs without Python: what C is handed, with offsets where pointers go."""

import ctypes
from collections.abc import Iterator
from ctypes import c_int64
from typing import Any

import numpy as np

from harp.errors import HarpError
from harp.runtime.compiling import CompiledSegment
from harp.runtime.native import Native, Network, Program, Step
from harp.runtime.program import LINE, Compiled

MAGIC = b"HARPPLAN"
POINTERS = {
    Network: ("whole", "head", "tail", "input_sizes", "output_sizes"),
    Program: ("buffers", "steps"),
    Step: ("starts", "entries", "bias", "up", "down", "valid", "taps"),
}


class Head(ctypes.Structure):
    """The file's first bytes; kernels/plans.h tells what the fields mean."""

    _fields_ = (
        ("magic", ctypes.c_char * 8),
        ("layout", ctypes.c_uint64),
        *((name, c_int64) for name in ("bytes", "network", "pointers", "count", "cells")),
    )


def plan_bytes(segment: CompiledSegment, build: Native) -> bytes:
    """The plan of a segment from one value to one value, for that build of the engine."""
    if len(segment.inputs) != 1 or len(segment.outputs) != 1:
        raise HarpError("a plan is of a network that takes one value and makes one")
    if segment.late and segment.tail is None:
        segment.divide()  # a plan is not divided later, when a batch comes
    network, kept = segment.network()
    laid = _Laid(ctypes.sizeof(Head))
    start = laid.put(network)
    for part in (segment.whole, segment.head, segment.tail):
        if part is not None:
            build.check(part.program)
            for block in _blocks(part):
                laid.put(block)
    for sizes in kept[0]:
        laid.put(sizes)
    return laid.file(start, build.fingerprint(), segment.cells())


def _blocks(part: Compiled) -> Iterator[Any]:
    buffers, data = part._kept
    yield from (part.program, buffers, part.steps)
    yield from data


class _Laid:
    """Blocks of memory one after the other in a file, and which of their bytes are pointers into others."""

    def __init__(self, head: int):
        self._end = _up(head)
        self._parts: list[tuple[int, bytes]] = []  # where each begins in the file
        self._places: list[tuple[int, int, int]] = []  # from which address, how many bytes, to where
        self._pointers: dict[int, int] = {}  # of each in the file, the address

    def put(self, block: Any) -> int:
        """Adds a structure, an array of them, or an array of numbers; gives where it lies in the file."""
        array = isinstance(block, np.ndarray)
        address = block.ctypes.data if array else ctypes.addressof(block)
        content = block.tobytes() if array else bytes(block)
        place, self._end = self._end, _up(self._end + len(content))
        self._parts.append((place, content))
        self._places.append((address, len(content), place))
        kind = getattr(type(block), "_type_", type(block))
        for field in POINTERS.get(kind, ()):
            size, offset = ctypes.sizeof(kind), getattr(kind, field).offset
            for start in range(0, len(content), size):
                found = int.from_bytes(content[start + offset : start + offset + 8], "little")
                if found:
                    self._pointers[place + start + offset] = found
        return place

    def file(self, network: int, layout: int, cells: int) -> bytes:
        """All of it, with the head before and the list of pointers behind."""
        content = bytearray(self._end + 8 * len(self._pointers))
        for place, part in self._parts:
            content[place : place + len(part)] = part
        starts = sorted(self._places)
        addresses = np.array([start for start, _, _ in starts])
        for number, (place, address) in enumerate(self._pointers.items()):
            start, size, to = starts[int(np.searchsorted(addresses, address, "right")) - 1]
            if not start <= address < start + max(size, 1):
                raise AssertionError("a pointer to what is not in the plan")
            content[place : place + 8] = (to + address - start).to_bytes(8, "little")
            content[self._end + 8 * number : self._end + 8 * number + 8] = place.to_bytes(8, "little")
        head = Head(MAGIC, layout, len(content), network, self._end, len(self._pointers), cells)
        content[: ctypes.sizeof(head)] = bytes(head)
        return bytes(content)


def _up(size: int) -> int:
    return -(-size // LINE) * LINE

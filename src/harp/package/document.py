"""The section `manifest`: what the file says of the network, its graph and its tensors, as deflated JSON."""

import zlib
from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

from harp.errors import HarpError
from harp.graph import Array, ArrayGraph, SparseArray
from harp.package.codec import STORED, Entry, Reader, decode
from harp.package.container import Contents
from harp.package.graphs import entry_of, entry_value, graph_of, graph_value
from harp.package.manifest import Manifest, manifest_of, manifest_value
from harp.package.strict import dumps, loads, record, short

TEXT = 2**21  # bytes of JSON; as Python objects they can grow to some 60 MB
# Elements of all tensors together: so many, and so many more for each byte of the file, since a few bytes can stand for
# a sparse tensor of any size. At 99.9 % a network takes one byte for 150 elements.
ELEMENTS, PER_BYTE = 2**24, 2**9


@dataclass(frozen=True)
class Document:
    """The section's content; the graph is without tensors."""

    manifest: Manifest
    graph: ArrayGraph
    entries: tuple[Entry, ...]


def document_value(document: Document) -> bytes:
    """The document as JSON; raises `HarpError` where it holds what the format does not."""
    value = {
        "about": manifest_value(document.manifest),
        "graph": graph_value(document.graph),
        "tensors": [entry_value(entry) for entry in document.entries],
    }
    try:
        return dumps(value)
    except ValueError as error:
        raise HarpError(f"a name in the graph is not text: {short(error)}") from None


def document_of(contents: Contents) -> Document:
    """The document of a file; raises `HarpError` where it is not one, or asks for more than the file can fill."""
    value: Any = loads(_inflated(contents.bytes("manifest")), "its manifest")
    found = record(value, "its manifest", {"about": dict, "graph": dict, "tensors": list})
    manifest, entries = manifest_of(found["about"]), tuple(entry_of(part) for part in found["tensors"])
    names = Counter(entry.name for entry in entries)
    if twice := [name for name, count in names.items() if count > 1]:
        raise HarpError(f"it has two tensors called {short(twice[0])}")
    elements, most = sum(prod(entry.shape) for entry in entries), ELEMENTS + PER_BYTE * len(contents.buffer)
    if elements > most:
        raise HarpError(f"its tensors have {elements:,} elements; a file of its length may have {most:,}")
    _check_precision(manifest.values, entries)
    return Document(manifest, graph_of(found["graph"], {}), entries)


def tensors_of(contents: Contents, document: Document) -> tuple[dict[str, Array | SparseArray], list[str]]:
    """The file's tensors by name, and a sentence for each that is impossible, or for numbers that belong to none."""
    reader, tensors, faults = Reader(contents.arrays()), {}, []
    for entry in document.entries:
        try:
            tensors[entry.name] = decode(entry, reader)
        except HarpError as error:
            faults.append(f"the tensor {short(entry.name)}: {error}")
    if left := "" if faults else reader.left():
        faults.append(left)
    return tensors, faults


def _inflated(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, TEXT + 1)
    except zlib.error as error:
        raise HarpError(f"its manifest cannot be inflated: {error}") from None
    if len(text) > TEXT:
        raise HarpError(f"its manifest is longer than {TEXT:,} bytes, the most that is allowed")
    if not stream.eof or stream.unused_data:
        raise HarpError("its manifest is not one whole zlib stream")
    return text


def _check_precision(values: str, entries: tuple[Entry, ...]) -> None:
    allowed = STORED.get(values)
    for entry in entries:
        if allowed is None or entry.coding.stored not in (entry.dtype, allowed):
            raise HarpError(f"its values are said to be {short(values)}, but {short(entry.name)} is not")

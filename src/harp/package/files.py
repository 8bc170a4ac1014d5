"""Packages on disk: written whole or not at all, read without trusting them, checked without stopping at a fault."""

import zlib
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from harp.errors import HarpError
from harp.graph import Graph, check, to_arrays, to_tensors
from harp.package.container import Contents, load, pack
from harp.package.document import Document, document_of, document_value, tensors_of
from harp.package.encoding import Writer, encode
from harp.package.manifest import Manifest
from harp.package.precision import output_axes, precision
from harp.package.reading import named, refuse, unpack, unpacked
from harp.package.sizing import Sizes, tensor_size
from harp.runs import write_atomic


@dataclass(frozen=True)
class Package:
    """A network and what its file says of it; `seal` is the SHA-256 that names the file's content."""

    graph: Graph
    manifest: Manifest
    seal: str


def write(path: str | PathLike[str], graph: Graph, manifest: Manifest, values: str = "fp32") -> Sizes:
    """The sizes of the package that `path` now is: replaced in one rename, after its bytes were read back.

    `values` "fp32" keeps every bit of every tensor; "fp16", "bf16" and "int8" (with one float32 scale for each output
    channel) round the float32 weights of convolutions and linear layers, and nothing else. A weight of -0.0 is stored
    as any other number: what was pruned should be +0.0. The same arguments give the same bytes. Raises `HarpError` for
    a graph or a manifest that the format cannot hold.
    """
    check(graph)
    lossy, axes, writer = precision(values), output_axes(graph), Writer()
    tensors = graph.tensors.items()
    entries = [encode(name, tensor, writer, lossy, axes.get(name)) for name, tensor in tensors]
    text = document_value(Document(replace(manifest, values=values), to_arrays(graph), tuple(entries)))
    data = pack(writer.whole() | {"manifest": zlib.compress(text, 9)})
    sizes = _sizes(Contents.of(data))
    write_atomic(Path(path), data)
    return sizes


def read(path: str | PathLike[str]) -> Package:
    """The package in `path`; nothing in it is executed, and nothing believed before it was checked.

    float32 tensors come back bit for bit as they were written with `values="fp32"`; those that are mostly zero as
    `Sparse`. Raises `HarpError` for a file that is missing, damaged, of a later format, or something else, and says
    which; what it allocates before that is in proportion to the file.
    """
    found = unpack(path)
    return Package(to_tensors(found.graph), found.manifest, found.seal)


def sizes(path: str | PathLike[str]) -> Sizes:
    """How many bytes each part and tensor of the package takes; raises `HarpError` as `read` does."""
    with named(path):
        contents = load(Path(path))
        refuse(contents.faults())
        return _sizes(contents)


def check_file(path: str | PathLike[str]) -> tuple[str, ...]:
    """What is wrong with the file, a sentence each; empty where `read` would take it.

    Every damaged section and every impossible tensor is named, not only the first.
    """
    try:
        contents = load(Path(path))
        faults = contents.faults()
        return tuple(faults or unpacked(contents)[1])
    except HarpError as error:
        return (str(error),)


def _sizes(contents: Contents) -> Sizes:
    document = document_of(contents)
    tensors, faults = tensors_of(contents, document)
    refuse(faults)
    parts = {"header": contents.start} | {name: end - begin for name, (begin, end) in contents.spans.items()}
    return Sizes(parts, tuple(tensor_size(entry, tensors[entry.name]) for entry in document.entries))

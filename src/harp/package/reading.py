"""A package read without trusting it, into arrays: PyTorch is not needed, unless a layer is one that only it knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from harp.errors import HarpError
from harp.graph import ArrayGraph, Unknown, check
from harp.package.container import Contents, load
from harp.package.document import document_of, tensors_of
from harp.package.manifest import Manifest


@dataclass(frozen=True)
class Unpacked:
    """A network and what its file says of it; `seal` is the SHA-256 that names the file's content."""

    graph: ArrayGraph
    manifest: Manifest
    seal: str


def unpack(path: str | PathLike[str], unknown: Unknown | None = None) -> Unpacked:
    """The package in `path`; nothing in it is executed, and nothing believed before it was checked.

    `unknown` tells shapes that no rule does, as for `check`; None asks PyTorch. Raises `HarpError` for a file that is
    missing, damaged, of a later format, or something else, and says which; what it allocates before that is in
    proportion to the file.
    """
    with named(path):
        contents = load(Path(path))
        refuse(contents.faults())
        package, faults = unpacked(contents, unknown)
        refuse(faults)
        return package


def unpacked(contents: Contents, unknown: Unknown | None = None) -> tuple[Unpacked, list[str]]:
    """The package, and what is wrong with its tensors; only without such faults is its graph a checked one."""
    document = document_of(contents)
    tensors, faults = tensors_of(contents, document)
    graph = replace(document.graph, tensors=tensors)
    if not faults:
        check(graph, unknown)
    return Unpacked(graph, document.manifest, contents.seal), faults


def refuse(faults: list[str]) -> None:
    """Raises `HarpError` that tells the first three, where there are faults."""
    if faults:
        raise HarpError("; ".join(faults[:3]) + ("" if len(faults) <= 3 else f"; and {len(faults) - 3} more"))


@contextmanager
def named(path: str | PathLike[str]) -> Iterator[None]:
    """Errors begin with the file's name."""
    try:
        yield
    except HarpError as error:
        raise HarpError(f"{Path(path)}: {error}") from None

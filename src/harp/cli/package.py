"""`harp inspect FILE`: what a package holds and what it says of itself."""

from collections.abc import Container, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harp.cli.tables import count_table, share_of
from harp.errors import HarpError
from harp.export import one_by_one
from harp.package import Manifest, Sizes, read, sizes, weight_names


def inspect_package(arguments: list[str]) -> None:
    """Prints a row for each weight, then the manifest in words; raises `HarpError` for a damaged file."""
    path, flags = Path(arguments[0]), arguments[1:]
    if flags:
        raise HarpError(f"no argument {flags[0]!r}; a package is inspected as it is: harp inspect {path}")
    package, found = read(path), sizes(path)
    # Names may hold brackets and colons, which rich would read as markup.
    console = Console(markup=False, highlight=False, emoji=False)
    name, shape = _text(package.manifest.name) or "a network", "x".join(map(str, package.graph.shape))
    operations = f"{len(package.graph.nodes)} operations, values in {package.manifest.values}"
    console.print(f"{path}: {name}, images {shape}, {operations}\n")
    console.print(_tensors(found, set(weight_names(package.graph, package.manifest))))
    if package.graph.batch is not None:
        console.print(f"\n{one_by_one(package.graph.batch)}")
    for line in _told(package.manifest, found):
        console.print(line)


def _tensors(found: Sizes, weights: Container[str]) -> Table:
    table, rest = count_table("weight", "shape", "not zero", "share", "bytes", numbers=4), 0
    for tensor in found.tensors:
        size = tensor.index + tensor.values
        if tensor.name not in weights:
            rest += size
            continue
        shape, share = "x".join(map(str, tensor.shape)), share_of(tensor.nonzeros, prod(tensor.shape))
        table.add_row(_text(tensor.name), shape, f"{tensor.nonzeros:,}", share, f"{size:,}")
    table.add_row("(biases and other tensors)", "", "", "", f"{rest:,}")
    return table


def _told(manifest: Manifest, found: Sizes) -> Iterator[str]:
    yield f"\n{found.bytes:,} bytes, {found.bytes / found.bound:.3f} times the least for so many non-zeros"
    if counts := manifest.counts:
        kept = f"{counts.nominal:,} of {counts.weights:,} weights kept, {counts.budget:,} promised"
        yield f"{kept}; {counts.effective:,} have an effect and are here"
    if manifest.classes:
        first = ", ".join(map(_text, manifest.classes[:10]))
        yield f"{len(manifest.classes)} classes: {first}{', ...' if len(manifest.classes) > 10 else ''}"
    against = manifest.threat or "no threat it tells of"
    yield f"pixels from {manifest.low:g} to {manifest.high:g}; trained against {against}"
    measures = manifest.evaluation.get("measures")
    for name, cell in measures.items() if isinstance(measures, dict) else ():
        yield from _accuracy(name, cell)


def _accuracy(name: str, cell: Any) -> Iterator[str]:
    """What a manifest claims; a file may claim anything, in any form."""
    if isinstance(cell, Mapping) and all(type(cell.get(key)) in (int, float) for key in ("accuracy", "n")):
        doubt = ", in doubt" if cell.get("doubts") else ""
        yield f"said to be right, {_text(name)}: {100 * cell['accuracy']:.1f} % of {cell['n']:,}{doubt}"


def _text(name: str) -> str:
    """The name without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)

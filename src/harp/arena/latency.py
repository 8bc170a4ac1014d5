"""How fast the packages of an arena are, each beside that of the dense network it came from."""

from collections.abc import Iterable
from pathlib import Path

import torch

from harp.ambient import precise
from harp.arena.grid import Cell
from harp.arena.schema import Latency
from harp.bench.timing import faster, interleaved
from harp.config import EXPORT
from harp.export import load
from harp.pipeline.display import Display
from harp.runs import file_digest, read_json, write_json

LATENCY, PACKAGE = "latency.json", Path(EXPORT) / "package.safetensors"
ROUNDS, LEAST = 12, 0.05  # a sample takes that many seconds at least


def time_cells(pairs: Iterable[tuple[Cell, Cell]], folder: Path, display: Display) -> None:
    """Of every pair, a cell and its seed's dense one, the cell's latency.json, where both were packed.

    One image, one thread, processor time, the two in turns; what is on file for the same packages is not taken again.
    """
    waiting = [
        (folder / cell.folder, folder / dense.folder)
        for cell, dense in pairs
        if (folder / cell.folder / PACKAGE).exists() and (folder / dense.folder / PACKAGE).exists()
    ]
    waiting = [pair for pair in waiting if latency_of(*pair) is None]
    if not waiting:
        return
    with display.bar("latency", len(waiting), 0, 1) as move:
        for place, dense in waiting:
            write_json(place / LATENCY, {"of": _digests(place, dense), **_measured(place, dense).model_dump()})
            move(1, place.name)


def latency_of(place: Path, dense: Path) -> Latency | None:
    """What is on file for the package in `place` beside that in `dense`; None where nothing is, or of other files."""
    path = place / LATENCY
    if not (path.exists() and (dense / PACKAGE).exists()):
        return None
    found = read_json(path)
    return Latency.model_validate(found) if found.pop("of", None) == _digests(place, dense) else None


def _digests(place: Path, dense: Path) -> list[str]:
    return [file_digest(folder / PACKAGE) for folder in (place, dense)]


@precise()
def _measured(place: Path, dense: Path) -> Latency:
    ours, whole = (load(folder / PACKAGE, threads=1) for folder in (place, dense))
    image = torch.rand(1, *ours.graph.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        taken = interleaved({"dense": lambda: whole(image), "ours": lambda: ours(image)}, ROUNDS, LEAST)
    found = faster(taken["dense"].cpu, taken["ours"].cpu)
    return Latency(seconds=min(taken["ours"].cpu), times_faster=found.ratio, low=found.low, high=found.high)

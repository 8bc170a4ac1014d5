"""What the files of an arena tell: which cells are finished, at work, stopped or failed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harp.arena.results import RESULTS
from harp.arena.running import ASKED, FAILED
from harp.arena.schema import Results
from harp.config import EVALUATION, EXPORT
from harp.runs import Run, read_json
from harp.watching.reading import at_work, patiently
from harp.watching.run import RunState, watched_run

CellStatus = Literal["finished", "failed", "running", "begun"]


@dataclass(frozen=True)
class CellState:
    """One cell: its folder in the arena's, how it stands, why it failed, and of one at work the run."""

    name: str
    status: CellStatus
    reason: str = ""
    run: RunState | None = None


@dataclass(frozen=True)
class ArenaState:
    """An arena: the cells that were begun, and how many were not; None before a first one has ended."""

    folder: Path
    cells: tuple[CellState, ...]
    waiting: int | None

    @property
    def ended(self) -> bool:
        """Whether no cell is left to do: what failed is not tried again before the next time."""
        return self.waiting == 0 and all(cell.status in ("finished", "failed") for cell in self.cells)

    def count(self, status: CellStatus) -> int:
        """How many cells stand like that."""
        return sum(cell.status == status for cell in self.cells)


def is_arena(folder: Path) -> bool:
    """Whether cells of an arena lie in the folder."""
    return not (folder / "recipe.yaml").exists() and next(_places(folder), None) is not None


def watched_arena(folder: Path) -> ArenaState:
    """The arena in `folder` as its files are now."""
    cells = tuple(_cell(folder, place) for place in _places(folder))
    told = patiently(lambda: Results.model_validate(read_json(folder / RESULTS)), None)
    if told is None:
        return ArenaState(folder, cells, None)
    # Results are of the cells; those of dense networks are counted by their folders alone.
    whole = len(told.measured) + told.unfinished + sum(one.row != "dense" for one in told.failed)
    begun = sum(cell.name.startswith("cells/") for cell in cells)
    return ArenaState(folder, cells, max(0, whole - begun))


def _places(folder: Path) -> Iterator[Path]:
    for path in sorted([*folder.glob(f"dense-seed*/{ASKED}"), *folder.glob(f"cells/*/{ASKED}")]):
        yield path.parent


def _cell(folder: Path, place: Path) -> CellState:
    name, run = str(place.relative_to(folder)), Run(place)
    if (place / FAILED).exists():
        return CellState(name, "failed", patiently(lambda: str(read_json(place / FAILED)["reason"]), ""))
    if patiently(lambda: all(run.done(stage) is not None for stage in (EVALUATION, EXPORT)), False):
        return CellState(name, "finished")
    status: CellStatus = "begun" if at_work(place) is False else "running"
    return CellState(name, status, run=patiently(lambda: watched_run(place), None))

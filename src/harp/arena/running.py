"""The cells of an arena, each an ordinary `harp run` in a process of its own, so that one that fails stops no other."""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from harp.arena.grid import Cell
from harp.arena.launching import ASKED, OUTPUT, Launcher
from harp.config import EVALUATION, EXPORT, plan, write_recipe
from harp.errors import HarpError
from harp.pipeline.display import Display
from harp.pipeline.kept import made_alike
from harp.runs import DONE, DamagedError, Run, remove, write_atomic, write_json

__all__ = ["ASKED", "FAILED", "OUTPUT", "is_finished", "run_cells"]

FAILED = "failed.json"


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    launcher: Launcher,
    display: Display,
    ended: Callable[[], object] = lambda: None,
    training: bool = False,
) -> None:
    """Every cell has run, or its `training`; of one that failed the reason lies in its folder, in failed.json.

    What is finished is not done again; a cell that was killed, or failed, goes on from its last checkpoint, and one
    that begins with the stages of another is given them, once that has made them. `ended` is called after each.
    """
    waiting = {folder / cell.folder: cell for cell in cells if not is_finished(cell, folder, training)}
    # What is no recipe says so at once, in its own words, and is not launched.
    refused = {place: reason for place, cell in waiting.items() if (reason := _refusal(cell))}

    def begin(place: Path, name: str) -> None:
        remove(place / FAILED)
        write_atomic(place / name, _asked(waiting[place]))
        _take_over(waiting[place], cells, folder)

    with display.bar("arena", len(cells), len(cells) - len(waiting), 1) as move:

        def tell(place: Path, reason: str | None) -> None:
            if reason:
                write_json(place / FAILED, {"reason": reason})
            move(1, f"{waiting[place].folder}{f' failed: {reason}' if reason else ''}")
            ended()

        for place, reason in refused.items():
            begin(place, ASKED)
            tell(place, reason)
        flags = ["--train-only"] if training else []
        with closing(launcher([place for place in waiting if place not in refused], begin, flags)) as results:
            for place, failed in results:
                tell(place, failed)


def is_finished(cell: Cell, folder: Path, training: bool = False) -> bool:
    """Whether the cell, or its `training`, ended under the settings that are asked for now."""
    run = Run(folder / cell.folder)
    asked = folder / cell.folder / ASKED
    if not asked.exists() or asked.read_bytes() != _asked(cell):
        return False
    last = [plan(cell.recipe.stages)[-1].folder] if training and not _refusal(cell) else [EVALUATION, EXPORT]
    return all(run.done(stage) is not None for stage in last)


def _take_over(cell: Cell, cells: Sequence[Cell], folder: Path) -> None:
    """The cell has the training stages that another has made as it would; one that has begun stays as it is.

    So rows that only differ in how they fine-tune share a search.
    """
    run = Run(folder / cell.folder)
    if _refusal(cell) or any(run.at(stage.folder).exists() for stage in plan(cell.recipe.stages)):
        return
    for other in cells:
        if (other.seed, other.keep) != (cell.seed, cell.keep):
            continue
        made, stages = Run(folder / other.folder), list[str]()
        with suppress(DamagedError):  # which that cell itself will tell
            stages = made_alike(made, cell.recipe)
        for stage in stages:
            _copy(made, run, stage, cell.recipe.name)
        if stages:
            return


def _copy(made: Run, run: Run, stage: str, name: str) -> None:
    """The stage has ended in `run`, which has that name, as it did in `made`."""
    for file in made.at(stage).iterdir():
        if file.name != DONE:
            write_atomic(run.at(stage) / file.name, file.read_bytes())
    record = made.done(stage) or {}
    run.finish(stage, {**record, "recipe": {**record["recipe"], "name": name}})


def _asked(cell: Cell) -> bytes:
    try:
        return write_recipe(cell.recipe)
    except HarpError as error:
        return f"# {error}\n".encode()


def _refusal(cell: Cell) -> str:
    try:
        cell.recipe  # noqa: B018  what is read is whether it can be made
    except HarpError as error:
        return str(error)
    return ""

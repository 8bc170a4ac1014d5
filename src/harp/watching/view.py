"""A watched run or arena as a table that a terminal shows anew, or as plain lines."""

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harp.watching.arena import ArenaState, CellState
from harp.watching.run import RunState, StageState

BARS, WIDTH = "▁▂▃▄▅▆▇█", 24
Seen = Mapping[str, tuple[float, int]]
"""By a stage's name, a time and the step that was on record then: what a pace is taken from."""


def lines(state: RunState | ArenaState, seen: Seen | None = None) -> list[str]:
    """A plain line for each stage that was begun, or for each cell and one of how many there are."""
    if isinstance(state, RunState):
        found = [_line(stage, seen or {}) for stage in state.stages if stage.status != "waiting"]
        return found or ["nothing on record yet"]
    return [*(_cell_line(cell) for cell in state.cells), _counts(state)]


def picture(state: RunState | ArenaState, seen: Seen | None = None) -> RenderableType:
    """The same as a table, with robust accuracy over the records as a row of bars."""
    return _run_table(state, seen or {}) if isinstance(state, RunState) else _arena_table(state)


def sparkline(values: list[float]) -> str:
    """Bars of the last values, from 0 to the highest of them all; wide ranges keep their order, not their scale."""
    shown, top = values[-WIDTH:], max(values, default=0.0)
    return "".join(BARS[min(len(BARS) - 1, int(len(BARS) * value / top))] if top else BARS[0] for value in shown)


def _measures(stage: StageState) -> Iterator[tuple[str, str]]:
    """Name and value of what was measured last."""
    if not stage.records:
        return
    last = stage.records[-1]
    if last.loss is not None:
        yield "loss", f"{last.loss:.3f}"
    if last.validation is not None:
        yield "clean", f"{100 * last.validation.clean:.1f} %"
        yield "robust", f"{100 * last.validation.robust:.1f} %"
    if last.pruner is not None and last.pruner.density is not None:
        yield "density", f"{last.pruner.density:.4g}"
    if stage.budget is not None:
        yield "budget", f"{stage.budget:g}"


def _steps(stage: StageState) -> str:
    if stage.note or (stage.until is None and not stage.step):
        return stage.note
    return f"{stage.step:,}" if stage.until is None else f"{stage.step:,} of {stage.until:,}"


def _line(stage: StageState, seen: Seen) -> str:
    steps = _steps(stage)
    words = [f"step {steps}" if steps and not stage.note else steps, stage.left(seen.get(stage.name), stage.at)]
    words += [f"{name} {value}" for name, value in _measures(stage)]
    said = ", ".join(filter(None, words))
    return f"{stage.name}: {'done' if stage.status == 'done' else 'running'}{f', {said}' if said else ''}"


def _run_table(state: RunState, seen: Seen) -> Table:
    working = {True: "at work", False: "no process of this machine at work", None: ""}[state.at_work]
    table = Table(title=Text(", ".join(filter(None, [str(state.folder), "ended" if state.ended else working]))))
    for name in ("stage", "", "steps", "left", "loss", "clean", "robust", "density", "budget", "robust so far"):
        table.add_column(name, overflow="fold")
    for stage in state.stages:
        told = dict(_measures(stage))
        robust = [line.validation.robust for line in stage.records if line.validation is not None]
        table.add_row(
            *(stage.name, stage.status, _steps(stage), stage.left(seen.get(stage.name)).removesuffix(" left")),
            *(told.get(name, "") for name in ("loss", "clean", "robust", "density", "budget")),
            sparkline(robust),
        )
    return table


def _counts(state: ArenaState) -> str:
    words = [
        f"{state.count('finished')} finished, {state.count('running')} running, {state.count('failed')} failed",
        f"{count} stopped" if (count := state.count("begun")) else "",
        f"{state.waiting} not begun" if state.waiting else "",
    ]
    return ", ".join(filter(None, words))


def _cell_line(cell: CellState) -> str:
    return f"{cell.name}: {'stopped' if cell.status == 'begun' else cell.status}{_detail(cell)}"


def _detail(cell: CellState) -> str:
    if cell.reason:
        return f": {cell.reason}"
    running = [stage for stage in cell.run.stages if stage.status == "running"] if cell.run else []
    return f", {_line(running[-1], {})}" if running else ""


def _arena_table(state: ArenaState) -> RenderableType:
    """Cells that are not finished, line by line; those that are, as a number."""
    table = Table(title=Text(str(state.folder)))
    for name in ("cell", "", "at"):
        table.add_column(name, overflow="fold")
    for cell in state.cells:
        if cell.status != "finished":
            status = "stopped" if cell.status == "begun" else cell.status
            table.add_row(Text(cell.name), status, Text(_detail(cell).lstrip(":, ")))
    return Group(table, Text(_counts(state)))

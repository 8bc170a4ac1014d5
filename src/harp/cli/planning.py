"""`harp plan`: what a run would take, before anything starts."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from rich.table import Table

from harp.cli.recipes import asked
from harp.config import make_recipe

if TYPE_CHECKING:
    from harp.probing import Estimate, Range

ABOUT = """\
Time and memory are from a few real steps of each stage on this machine, validation included; what a method does \
before its first step, settling, export and report are not in them.
The evaluation's time depends on how many images hold: the least is where each falls at an attack's first query, the \
most where all hold to the end. Doubts and the curve are not in it; attacks on sparse networks are quicker."""


def plan_run(arguments: list[str]) -> None:
    """Prints a row for each stage; writes nothing. Raises `HarpError` for all that the run would refuse."""
    wanted = asked("plan", arguments)
    recipe = make_recipe(wanted.values)

    from harp.pipeline.display import Display
    from harp.probing import estimate

    display = Display()
    if wanted.chosen:
        display.say(wanted.chosen)
    rows = estimate(recipe, wanted.folder, wanted.edited, lambda text: display.errors.print(text, markup=False))
    display.console.print(table(rows))
    display.say(ABOUT)


def table(rows: "Sequence[Estimate]") -> Table:
    """A row for each stage and one for all."""
    found = Table(title="what the run would take")
    for name in ("stage", "steps", "forward passes", "time", "memory", "disk"):
        found.add_column(name, justify="left" if name == "stage" else "right", overflow="fold")
    for row in rows:
        if row.done:
            found.add_row(row.stage, "done")
            continue
        steps = "" if row.steps is None else f"{row.steps:,}"
        found.add_row(row.stage, steps, _count(row.forwards), _time(row.seconds), _size(row.memory), _size(row.disk))
    if left := [row for row in rows if not row.done]:
        passes, seconds = reduce(add, [row.forwards for row in left]), reduce(add, [row.seconds for row in left])
        memory, disk = (
            max(count or 0 for count in counts) for counts in zip(*((r.memory, r.disk) for r in left), strict=True)
        )
        found.add_section()
        found.add_row("all", "", _count(passes), _time(seconds), _size(memory), _size(disk))
    return found


def _count(passes: "Range") -> str:
    return _ends(f"{passes.low:.2g}", f"{passes.high:.2g}")


def _time(seconds: "Range") -> str:
    from harp.pipeline.display import span

    return _ends(span(seconds.low), span(seconds.high))


def _ends(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _size(count: int | None) -> str:
    return "" if not count else f"{count / 1e6:,.1f} MB"

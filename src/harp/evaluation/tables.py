"""Recorded accuracies as a table for the terminal."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Cell = Mapping[str, Any]
"""accuracy, low, high in [0, 1] and n; where classes were weighed alike, too, "balanced" with accuracy, low, high.
"doubts", where there are any, are shown in the number's place, "beside" beside it; "examined": 0, nobody looked for
some, is said below."""
WIDTH = 100


def accuracy_table(
    models: Mapping[str, Mapping[str, Cell]],
    title: str,
    sizes: Mapping[str, Sequence[str]],
    cumulative: bool = False,
) -> Table:
    """Models side by side, a row for each measure: accuracy in percent with its 95 % interval.

    `models`: model -> measure ("clean", attacks, "worst") -> cell; a measure a model lacks is a dash, and a row of
    balanced accuracies follows each measure that has them. `sizes` are rows that come first, a text for each model.
    `cumulative`: an attack's cell counts what is right after it and all attacks before it, and its row says so.
    The number of points stands below the table where it is one for all, else in each row's name.
    """
    counts = {cell["n"] for cells in models.values() for cell in cells.values()}
    below = [f"n = {counts.pop():,}"] if len(counts) == 1 else []
    if any(cell.get("examined") == 0 for cells in models.values() for cell in cells.values()):
        below.append("not examined for false robustness")
    grid = Table(title=title, caption="; ".join(below) or None)
    grid.add_column("", overflow="fold")
    for name in models:
        grid.add_column(name, justify="right", overflow="fold")
    for label, texts in sizes.items():
        grid.add_row(label, *texts)
    for measure in dict.fromkeys(measure for cells in models.values() for measure in cells):
        for row in _rows(measure, [cells.get(measure) for cells in models.values()], cumulative, bool(counts)):
            grid.add_row(*row)
    return grid


def as_text(table: Table) -> str:
    """The table as plain text of up to 100 columns, without colours, for `print` and for files."""
    stream = io.StringIO()
    Console(file=stream, width=WIDTH, color_system=None, force_jupyter=False).print(table)
    return stream.getvalue().rstrip("\n")


def _rows(measure: str, cells: Sequence[Cell | None], cumulative: bool, counted: bool) -> Iterator[list[str]]:
    label = f"after {measure}" if cumulative and measure not in ("clean", "worst") else measure
    if counted:
        label += f", n = {' or '.join(f'{n:,}' for n in sorted({cell['n'] for cell in cells if cell}))}"
    yield [label, *map(_percent, cells)]
    if any(cell and cell.get("balanced") for cell in cells):
        yield ["  classes alike", *(_percent(cell and cell.get("balanced")) for cell in cells)]


def _percent(cell: Cell | None) -> str:
    """`83.2 (79.1-86.6)`: accuracy and interval in percent; a dash where it was not measured, and any open doubts."""
    if cell is None:
        return "-"
    if cell.get("doubts"):
        return f"in doubt: {', '.join(cell['doubts'])}"
    beside = f"; {', '.join(cell['beside'])}" if cell.get("beside") else ""
    return f"{100 * cell['accuracy']:.1f} ({100 * cell['low']:.1f}-{100 * cell['high']:.1f}){beside}"

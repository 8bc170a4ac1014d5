"""`harp compare`: finished runs side by side, with mean and spread over seeds: a table, CSV, LaTeX, a page."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.table import Table

from harp.cli.flags import Parser
from harp.errors import HarpError


def compare_runs(arguments: list[str]) -> None:
    """Prints a line for each group of runs that differ in their seeds only; raises `HarpError` where none compare."""
    parser = Parser(
        "compare",
        usage="harp compare RUN [RUN ...] [--network NAME] [--out FILE ...]",
        description="Finished runs side by side. Those that differ in nothing but their seed are one line: the mean "
        "over seeds and the sample deviation, in percent. What tells the lines apart is what they are called.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument(
        "--network", metavar="NAME", help="which of a run's networks: dense, pruned, finetuned (default: its last)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write the table as FILE.csv, FILE.tex or FILE.html",
    )
    own = parser.parse_args(arguments)
    for path in own.out:
        if path.suffix not in (".csv", ".tex", ".html"):
            raise HarpError(f"--out {path}: expected a name that ends in .csv, .tex or .html")

    from harp.networks.comparison import as_csv, as_html, as_latex, compare, measures_of
    from harp.pipeline.display import Display
    from harp.runs import write_atomic

    display, lines = Display(), compare(own.runs, own.network)
    names = measures_of(lines)
    grid = Table(title="in %, mean and sample deviation over seeds")
    grid.add_column("runs", overflow="fold")
    for name in names:
        grid.add_column(name, justify="right", overflow="fold")
    for line in lines:
        cells = [str(line.cells[name]) if name in line.cells else "-" for name in names]
        grid.add_row(f"{line.label}\nseeds {', '.join(map(str, line.seeds))}", *cells)
    display.console.print(grid)
    writers: dict[str, Callable[..., str]] = {
        ".csv": as_csv,
        ".tex": as_latex,
        ".html": partial(as_html, folder=own.runs[0]),
    }
    for path in own.out:
        write_atomic(path, writers[path.suffix](lines).encode())
        display.say(f"written: {path}")

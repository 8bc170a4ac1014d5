"""`harp arena`: the methods of a grid against one another."""

from pathlib import Path

from rich.table import Table

from harp.cli.flags import Parser
from harp.cli.launching import USAGE, add_launching, check_launching, make_launcher
from harp.errors import HarpError


def run_arena(arguments: list[str]) -> None:
    """Runs what is not finished of a grid and prints the ranking.

    Raises `HarpError` for a grid that is none and, once all is run and written, where a cell failed.
    """
    parser = Parser(
        "arena",
        usage=f"harp arena GRID.yaml {USAGE}",
        description="Methods x budgets x seeds, all methods of a seed from one dense network. Every cell is an "
        "ordinary run in a process of its own; finished ones are skipped, begun ones resumed, and one that fails is "
        "told with its reason, stops no other, and makes the exit status 2. The folder gets results.json, "
        "results.csv, arena.html, arena.md, arena.tex and the figure.",
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="a YAML file: recipe, rows, keeps, seeds")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the arena lives (default: arenas/NAME)")
    add_launching(parser)
    own = parser.parse_args(arguments)
    check_launching(own)

    from harp.arena import arena, read_grid
    from harp.arena.grid import device_of
    from harp.arena.pages import keeps_of, lines, measures_of, share_of
    from harp.pipeline.display import Display

    grid, display = read_grid(own.grid), Display()
    folder = own.folder or Path("arenas") / grid.name
    launcher = make_launcher(own, device_of(grid), folder)
    results = arena(grid, folder, display=display, launcher=launcher)
    for keep in keeps_of(results):
        table = Table(title=f"{share_of(keep)} kept; in %, over seeds mean and deviation, of one the 95 % interval")
        for name in ("", "row", *measures_of(results)):
            table.add_column(name, justify="left" if name == "row" else "right", overflow="fold")
        for line in lines(results, keep):
            table.add_row(line.rank, line.row, *line.measures)
        display.console.print(table)
    display.say(f"results: {folder / 'arena.html'}")
    if results.failed:
        raise HarpError(f"{len(results.failed)} failed, for the reasons above; the same command goes on with them")

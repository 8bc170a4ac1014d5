"""`harp arena`: the methods of a grid against one another."""

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.table import Table

from harp.cli.flags import Parser, check_count
from harp.errors import HarpError

if TYPE_CHECKING:
    from harp.arena import Grid, Launcher


def run_arena(arguments: list[str]) -> None:
    """Runs what is not finished of a grid and prints the ranking; raises `HarpError` for a grid that is none."""
    parser = Parser(
        "arena",
        usage="harp arena GRID.yaml [--folder DIR] [--jobs N] [--launcher local|slurm [--slurm KEY=VALUE ...]]",
        description="Methods x budgets x seeds, all methods of a seed from one dense network. Every cell is an "
        "ordinary run in a process of its own; finished ones are skipped, begun ones resumed, and one that fails is "
        "told with its reason and stops no other. The folder gets results.json, results.csv, arena.html, arena.md, "
        "arena.tex and the figure.",
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="a YAML file: recipe, rows, keeps, seeds")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the arena lives (default: arenas/NAME)")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="cells at a time (default: 1; under slurm all that it has room for)"
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        help="local: processor cores, or a GPU, of its own for each cell; slurm: an array of jobs, waited for "
        "(default: processes that share this machine)",
    )
    parser.add_argument(
        "--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="partition=..., time=MINUTES, gpus_per_node=1, ..."
    )
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="processes for each cell, under slurm")
    own = parser.parse_args(arguments)
    for name in ("jobs", "ranks"):
        if getattr(own, name) is not None:
            check_count(f"--{name}", getattr(own, name), 4096)
    if own.launcher != "slurm" and (own.slurm or own.ranks > 1):
        raise HarpError(f"--{'slurm' if own.slurm else 'ranks'} is for --launcher slurm")

    from harp.arena import arena, read_grid
    from harp.arena.pages import keeps_of, lines, measures_of, share_of
    from harp.pipeline.display import Display

    signal.signal(signal.SIGTERM, _interrupted)
    grid, display = read_grid(own.grid), Display()
    folder = own.folder or Path("arenas") / grid.name
    results = arena(grid, folder, display=display, launcher=_launcher(own, grid, folder))
    for keep in keeps_of(results):
        table = Table(title=f"{share_of(keep)} kept; in %, over seeds mean and deviation, of one the 95 % interval")
        for name in ("", "row", *measures_of(results)):
            table.add_column(name, justify="left" if name == "row" else "right", overflow="fold")
        for line in lines(results, keep):
            table.add_row(line.rank, line.row, *line.measures)
        display.console.print(table)
    display.say(f"results: {folder / 'arena.html'}")


def _launcher(own: argparse.Namespace, grid: "Grid", folder: Path) -> "Launcher":
    from harp.arena import Processes, Submitted
    from harp.arena.grid import dense_cell
    from harp.arena.launching import cards

    if own.launcher == "slurm":
        pairs = [word.partition("=") for word in own.slurm]
        if strange := ["".join(pair) for pair in pairs if not (pair[0] and pair[2])]:
            raise HarpError(f"--slurm {strange[0]}: expected KEY=VALUE, as in partition=gpu")
        return Submitted(folder.absolute(), {key: value for key, _, value in pairs}, own.jobs, own.ranks)
    pinned = own.launcher == "local"
    on_cards = pinned and dense_cell(grid, 0).values.get("device") != "cpu"
    return Processes(own.jobs or 1, pinned, cards() if on_cards else ())


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # as from the keyboard, so that cells are stopped, too

"""The whole of an arena: dense networks first, then all cells, and after each what is known so far."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harp.arena.grid import Grid, cells, dense_cell, read_grid
from harp.arena.latency import time_cells
from harp.arena.launching import Launcher, Processes
from harp.arena.pages import write_pages
from harp.arena.results import collect, write_results
from harp.arena.running import run_cells
from harp.arena.schema import Results
from harp.config import make_settings
from harp.pipeline.display import Display


def arena(
    grid: Grid | Mapping[str, Any] | Path | str,
    folder: Path | str | None = None,
    jobs: int = 1,
    display: Display | None = None,
    launcher: Launcher | None = None,
) -> Results:
    """What the methods of a grid come to, all from the same dense network a seed; the folder has it as files, too.

    `grid` is a `Grid`, its settings, or a YAML file with them; `folder` None: arenas/NAME. `jobs` cells run at a time,
    each in a process of its own, or as `launcher` does it (`Processes`, `Submitted`). What is finished is not done
    again; a cell that fails is told with its reason and stops no other. The folder gets results.json, results.csv,
    arena.md, arena.html, arena.tex and the figure, anew after every cell; how fast the packages are is measured once
    all have run. Raises `HarpError` for a grid that is none.
    """
    if isinstance(grid, Path | str):
        grid = read_grid(Path(grid))
    if not isinstance(grid, Grid):
        grid = make_settings(Grid, grid)
    place = (Path(folder) if folder else Path("arenas") / grid.name).absolute()
    shown, launch = display or Display(), launcher or Processes(jobs)
    dense = {seed: dense_cell(grid, seed) for seed in grid.seeds}
    all_cells = list(cells(grid, place))

    def written() -> Results:
        results = collect(grid, all_cells, place)
        write_results(results, place)
        write_pages(results, place)
        return results

    run_cells(list(dense.values()), place, launch, shown)
    run_cells(all_cells, place, launch, shown, written)
    time_cells([(cell, dense[cell.seed]) for cell in all_cells], place, shown)
    results = written()
    for failure in results.failed:
        shown.say(f"failed: {failure.row} at {failure.keep:g}, seed {failure.seed}: {failure.reason}")
    return results

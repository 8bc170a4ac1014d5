"""`harp tune`: every row's settings by successive halving, on held-out images."""

from pathlib import Path

from rich.table import Table

from harp.cli.flags import Parser
from harp.cli.launching import USAGE, add_launching, check_launching, make_launcher


def run_tuning(arguments: list[str]) -> None:
    """Runs what is not finished of a search and prints each row's best; `HarpError` for a search that is none."""
    parser = Parser(
        "tune",
        usage=f"harp tune SEARCH.yaml {USAGE}",
        description="Which settings suit each row best: as many trials a row, many for a few epochs and the best of "
        "them for more, judged by images held out of the training set, never by the test set. Every trial is an "
        "ordinary run in a process of its own; finished ones are skipped, begun ones resumed. The folder gets "
        "tuning.json and tuned.yaml, a grid for `harp arena`.",
    )
    parser.add_argument(
        "search", type=Path, metavar="SEARCH", help="a YAML file: recipe, rows, space, trials, rungs, factor"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the search lives (default: tunings/NAME)")
    add_launching(parser)
    own = parser.parse_args(arguments)
    check_launching(own)

    from harp.arena.grid import device_of
    from harp.pipeline.display import Display
    from harp.tuning import read_tuning, tune
    from harp.tuning.tune import GRID, grid_of

    tuning, display = read_tuning(own.search), Display()
    folder = own.folder or Path("tunings") / tuning.name
    launcher = make_launcher(own, device_of(grid_of(tuning)), folder)
    results = tune(tuning, folder, display=display, launcher=launcher)
    table = Table(title=f"best on {results.held_out} held-out images, in %; {100 * results.keep:g} % kept")
    for name in ("row", "robust", "clean", "settings", "trials", "epochs", "forwards"):
        table.add_column(name, justify="left" if name in ("row", "settings") else "right", overflow="fold")
    for one in results.best:
        told = ", ".join(f"{name} {_short(value)}" for name, value in one.settings.items()) or "as it stands"
        measured = (f"{100 * one.robust:.1f}", f"{100 * one.clean:.1f}")
        table.add_row(one.row, *measured, told, str(one.trials), f"{one.epochs:g}", f"{one.forwards:.2g}")
    display.console.print(table)
    for trial in results.trials:
        if trial.reason:
            display.say(f"failed: {trial.row}, trial {trial.number}: {trial.reason}")
    display.say(f"on test images: harp arena {folder / GRID}")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

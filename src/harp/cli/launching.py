"""What commands that run many cells have in common: how many at a time, and where."""

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harp.cli.flags import Parser, check_count
from harp.errors import HarpError

if TYPE_CHECKING:
    from harp.arena import Launcher

USAGE = "[--folder DIR] [--jobs N] [--launcher local|slurm [--slurm KEY=VALUE ...]]"


def add_launching(parser: Parser) -> None:
    """The flags that say how cells are run."""
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


def check_launching(own: argparse.Namespace) -> None:
    """Raises `HarpError` for counts that are none, and for flags of another launcher; before anything is imported."""
    for name in ("jobs", "ranks"):
        if getattr(own, name) is not None:
            check_count(f"--{name}", getattr(own, name), 4096)
    if own.launcher != "slurm" and (own.slurm or own.ranks > 1):
        raise HarpError(f"--{'slurm' if own.slurm else 'ranks'} is for --launcher slurm")


def make_launcher(own: argparse.Namespace, device: str, folder: Path) -> "Launcher":
    """Who runs the cells, whose recipe names this `device`; from now on SIGTERM stops them as the keyboard does."""
    from harp.arena import Processes, Submitted
    from harp.arena.launching import cards

    signal.signal(signal.SIGTERM, _interrupted)
    if own.launcher == "slurm":
        pairs = [word.partition("=") for word in own.slurm]
        if strange := ["".join(pair) for pair in pairs if not (pair[0] and pair[2])]:
            raise HarpError(f"--slurm {strange[0]}: expected KEY=VALUE, as in partition=gpu")
        return Submitted(folder.absolute(), {key: value for key, _, value in pairs}, own.jobs, own.ranks)
    pinned = own.launcher == "local"
    return Processes(own.jobs or 1, pinned, cards() if pinned and device != "cpu" else ())


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # as from the keyboard, so that cells are stopped, too

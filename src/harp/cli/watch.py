"""`harp watch`: a run or an arena that another process makes, live."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harp.cli.flags import Parser
from harp.errors import HarpError

if TYPE_CHECKING:
    from rich.console import Console

    from harp.watching import ArenaState, RunState


def watch(arguments: list[str]) -> None:
    """Shows what a run's files tell until it ends; raises `HarpError` where no run and no arena lies."""
    parser = Parser(
        "watch",
        usage="harp watch RUN [--once] [--every SECONDS]",
        description="A run that another process makes, or an arena: the stage, steps, time left, what was measured "
        "last. It reads files, locks none and writes none. It ends when the run does, or its process; piped, it prints "
        "a line for each change.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run or of an arena")
    parser.add_argument("--once", action="store_true", help="say how it stands now, and end")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: 1)")
    own = parser.parse_args(arguments)
    if not 0.05 <= own.every <= 3600:
        raise HarpError(f"--every {own.every:g}: expected 0.05 to 3600 seconds")
    if not own.run.is_dir():
        raise HarpError(f"no folder {own.run}; expected that of a run or of an arena")

    from rich.console import Console

    from harp.watching import is_arena, lines, picture, watched_arena, watched_run

    console = Console(markup=False, highlight=False)
    look = watched_arena if is_arena(own.run) else watched_run
    if own.once:
        state = look(own.run)
        for part in [picture(state)] if console.is_terminal else lines(state):
            console.print(part, soft_wrap=not console.is_terminal)
        return
    try:
        _follow(lambda: look(own.run), own.every, console)
    except KeyboardInterrupt:  # it is how one stops looking
        return


def _follow(look: "Callable[[], RunState | ArenaState]", every: float, console: "Console") -> None:
    from rich.live import Live

    from harp.watching import lines, picture

    seen: dict[str, tuple[float, int]] = {}
    said: set[str] = set()
    with Live(console=console, auto_refresh=False) if console.is_terminal else _Nothing() as live:
        state, was_at_work = look(), False
        while True:
            _remember(state, seen)
            if isinstance(live, Live):
                live.update(picture(state, seen), refresh=True)
            else:
                for line in lines(state, seen):
                    if line not in said:
                        console.print(line, soft_wrap=True)
                        said.add(line)
            working = getattr(state, "at_work", None)
            if state.ended or (was_at_work and working is False):
                return
            was_at_work = was_at_work or working is True
            time.sleep(every)
            state = look()


def _remember(state: "RunState | ArenaState", seen: dict[str, tuple[float, int]]) -> None:
    """Of a stage that was taken up again, the first record that is seen: a pace needs somewhere to begin."""
    for stage in getattr(state, "stages", ()):
        if stage.status == "running" and stage.began is None and stage.at is not None and stage.records:
            seen.setdefault(stage.name, (stage.at, stage.step))


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

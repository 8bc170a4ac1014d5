"""What a run shows: bars with the time left on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Display:
    """Prints lines and tables to `console`, and progress bars only where it is a terminal."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()

    def say(self, text: str) -> None:
        """A line of plain text."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """A bar of `total` units; the function it gives moves it by so many units and sets the words beside it."""
        columns = (
            TextColumn("{task.description:12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        progress = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        with progress:
            task = progress.add_task(title, total=total, completed=done, note="")

            def move(units: int, note: str) -> None:
                progress.update(task, advance=units, note=note)

            yield move

"""What a run shows: bars with the time left on a terminal and in notebooks, elsewhere a plain line now and then."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harp.notation import fitted

LOG = logging.getLogger("harp.display")
MUTED: ContextVar[bool] = ContextVar("muted", default=False)
"""Whether a display that is made now prints nothing; what it would say is logged all the same."""
FIRST, EVERY = 10, 60  # seconds until the first plain line, and between two of them


class _Show(Protocol):
    def __call__(self, title: str, note: str, pace: "_Pace", now: bool = False) -> None: ...


class Display:
    """Prints lines and tables to `console`; progress as bars where it has them (`bars`), else as lines to `errors`.

    `errors` is standard error unless given; `clock` gives seconds. Lines are logged, too, as `harp.display`: info for
    what is said, debug for progress.
    """

    def __init__(
        self,
        console: Console | None = None,
        errors: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.console = console or Console(quiet=MUTED.get())
        self.errors = errors or Console(stderr=True, quiet=self.console.quiet)
        self.clock = clock

    @property
    def bars(self) -> bool:
        """Whether it can move bars: on a terminal, and in a notebook that has ipywidgets."""
        return self.console.is_terminal or (self.console.is_jupyter and find_spec("ipywidgets") is not None)

    def say(self, text: str) -> None:
        """A line of plain text."""
        LOG.info("%s", text)
        text = fitted(text, self.console.width) if self.console.is_terminal else text
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0, every: int = 0) -> Iterator[Callable[[int, str], None]]:
        """A bar of `total` units; the function it gives moves it by so many units and sets the words beside it.

        Where there is no terminal, a line comes after each `every` units, an epoch's steps, and else after a while. A
        line with the result stays when the bar is gone.
        """
        began, words = self.clock(), ""
        with self._shown() as show:
            pace = _Pace(total, done, began)

            def move(units: int, note: str) -> None:
                nonlocal words
                before, words = pace.count, note
                pace.add(units, self.clock())
                show(title, note, pace, every > 0 and pace.count // every > before // every)

            yield move
        if pace.count > done:
            took = f"{title}: {pace.count - done:,} of {total:,} in {span(self.clock() - began)}"
            self.say(", ".join(filter(None, [took, words])))

    @contextmanager
    def measures(self, title: str, total: int, done: Mapping[str, int]) -> Iterator[Callable[[str, int], bool]]:
        """A bar of `total` images for each measure that `done` names, with so many of them there already.

        The function it gives moves a measure's bar, and says whether it moved past what was there. The time left is the
        measure's at hand, by its own pace: what an attack takes that has not begun, nobody knows.
        """
        paces: dict[str, _Pace] = {}
        with self._shown() as show:
            last = self.clock()

            def move(measure: str, units: int) -> bool:
                nonlocal last
                pace = paces.setdefault(measure, _Pace(total, 0, last))
                before, now = pace.count, self.clock()
                pace.add(units, now)
                fresh = pace.count > done[measure]
                if not fresh:
                    pace.begin(now)
                place = [*done].index(measure) + 1
                last = now
                show(f"{title} {measure}", f"measure {place} of {len(done)}", pace)
                return fresh and pace.count > before

            yield move

    @contextmanager
    def _shown(self) -> Iterator["_Show"]:
        columns = (
            TextColumn("{task.description:12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[note]}"),
        )
        tasks: dict[str, TaskID] = {}
        due = self.clock() + FIRST
        with Progress(*columns, console=self.console, transient=True, disable=not self.bars) as progress:

            def show(title: str, note: str, pace: "_Pace", now: bool = False) -> None:
                nonlocal due
                if title not in tasks:
                    tasks[title] = progress.add_task(title, total=pace.total, left="", note="")
                progress.update(tasks[title], completed=pace.count, left=pace.left, note=note)
                if not self.bars and (now or self.clock() >= due):
                    due = self.clock() + EVERY
                    words = [f"{title}: {pace.count:,} of {pace.total:,}", pace.left, note]
                    LOG.debug("%s", ", ".join(filter(None, words)))
                    self.errors.print(", ".join(filter(None, words)), markup=False, highlight=False, soft_wrap=True)

            yield show


class _Pace:
    """How many of `total` are done, and how long the rest will take at the pace since the work began."""

    def __init__(self, total: int, count: int, now: float):
        self.total, self.count = total, count
        self.begin(now)

    def begin(self, now: float) -> None:
        self._from, self._began, self._now = self.count, now, now

    def add(self, units: int, now: float) -> None:
        self.count += units
        self._now = now

    @property
    def left(self) -> str:
        """`25 s left`, `12 min left`, or "" where nothing is known yet."""
        moved = self.count - self._from
        if not moved or self.count >= self.total:
            return ""
        return f"{span((self._now - self._began) / moved * (self.total - self.count))} left"


def span(seconds: float) -> str:
    """`25 s`, `12 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

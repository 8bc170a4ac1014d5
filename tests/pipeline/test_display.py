"""Progress as plain lines, by a clock that tells what it is told, and as bars in a notebook."""

import io
import sys
from types import ModuleType

import pytest
from rich.console import Console

from harp.pipeline.display import Display


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def piped():
    """A display that is no terminal, its clock, and what it says of its progress."""
    clock, said = Clock(), io.StringIO()
    return Display(Console(file=io.StringIO()), Console(file=said, width=200), clock), clock, said


def test_a_bar_that_is_piped_is_a_line_after_ten_seconds_and_one_a_minute(piped):
    display, clock, said = piped
    with display.bar("prune", 100) as move:
        for _ in range(100):
            clock.now += 1
            move(1, "loss 0.5")
    assert said.getvalue().splitlines() == [
        "prune: 10 of 100, 90 s left, loss 0.5",
        "prune: 70 of 100, 30 s left, loss 0.5",
    ]


def test_a_line_an_epoch_and_one_with_the_result():
    clock, said, errors = Clock(), io.StringIO(), io.StringIO()
    display = Display(Console(file=said), Console(file=errors), clock)
    with display.bar("prune", 6, done=1, every=2) as move:
        for step in range(5):
            clock.now += 1
            move(1, f"loss {step}")
    assert errors.getvalue().splitlines() == [
        "prune: 2 of 6, 4 s left, loss 0",
        "prune: 4 of 6, 2 s left, loss 2",
        "prune: 6 of 6, loss 4",
    ]
    assert said.getvalue() == "prune: 5 of 6 in 5 s, loss 4\n"


def test_a_bar_that_never_moved_leaves_no_result():
    said = io.StringIO()
    with Display(Console(file=said)).bar("prune", 6, done=6):
        pass
    assert said.getvalue() == ""


def test_what_was_done_before_is_no_part_of_the_pace(piped):
    display, clock, said = piped
    with display.bar("prune", 1000, done=900) as move:
        for _ in range(2):
            clock.now += 6
            move(10, "")
    assert said.getvalue() == "prune: 920 of 1,000, 48 s left\n"


def test_a_measures_time_left_is_by_its_own_pace(piped):
    """Clean images take a second, the attack half a minute a batch: 90 s for what is left, not 6."""
    display, clock, said = piped
    with display.measures("dense", 80, {"clean": 0, "pgd": 20}) as move:
        for _ in range(4):
            clock.now += 1
            assert move("clean", 20)
        assert move("pgd", 20) is False  # on record: no time, and no part of the pace
        clock.now += 30
        assert move("pgd", 20) is True
        clock.now += 60
        assert move("pgd", 20) is True
    assert said.getvalue().splitlines() == [
        "dense pgd: 40 of 80, 60 s left, measure 2 of 2",
        "dense pgd: 60 of 80, 45 s left, measure 2 of 2",
    ]


def test_a_quiet_display_says_nothing(capsys):
    clock = Clock()
    with Display(Console(quiet=True), clock=clock).bar("prune", 2) as move:
        clock.now += 100
        move(1, "")
    assert capsys.readouterr() == ("", "")


def test_bars_move_in_a_notebook(monkeypatch):
    shown: list[object] = []

    class Output:
        """What a cell shows: as in ipywidgets a context in which things are printed."""

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def clear_output(self, wait):
            pass

        def close(self):
            shown.append("closed")

    display, widgets = ModuleType("IPython.display"), ModuleType("ipywidgets")
    vars(display)["display"] = lambda value, **_: shown.append(getattr(value, "data", value))
    vars(widgets)["Output"], widgets.__spec__ = Output, object()  # type: ignore[assignment]
    for name, module in {"IPython": ModuleType("IPython"), "IPython.display": display, "ipywidgets": widgets}.items():
        monkeypatch.setitem(sys.modules, name, module)
    errors = io.StringIO()
    with Display(Console(force_jupyter=True), Console(file=errors)).bar("prune", 3) as move:
        move(3, "loss 0.5")
    assert any(isinstance(value, Output) for value in shown)
    assert "closed" in shown
    assert errors.getvalue() == ""

"""Cells as processes: what they are given, and that where they run changes nothing they come to."""

import os
import sys
from pathlib import Path
from threading import Event, Timer

import pytest

from harp.arena import Processes, arena
from harp.arena.launching import ASKED, OUTPUT, cards, reason_of
from harp.errors import HarpError
from tests.arena.conftest import GRID, quiet

LAUNCHING = sys.modules["harp.arena.launching"]  # `harp.arena` is the function of that name, too
SAYS = "import os; print(sorted(os.sched_getaffinity(0)), os.environ.get('CUDA_VISIBLE_DEVICES'))"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def told(results):
    return sorted((one.row, one.kept, str(one.accuracies), str(one.shares)) for one in results.measured)


def models(folder):
    """The exported weights of every cell, by bytes; packages name the folder they were made in."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("cells/*/export/m*.safetensors")}


@pytest.mark.slow
@pytest.mark.skipif(CORES < 2, reason="two cells with a core each need two")
def test_pinned_cells_come_to_the_same(finished, tmp_path, monkeypatch):
    folder, results = finished
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pinned = arena(GRID, tmp_path, display=quiet(), launcher=Processes(2, pinned=True))
    assert told(pinned) == told(results)
    assert [one.reason for one in pinned.failed] == [one.reason for one in results.failed]
    assert len(models(folder)) == 4  # weights and masks of two cells
    assert models(tmp_path) == models(folder)


@pytest.mark.skipif(CORES < 2, reason="two cells with a core each need two")
def test_each_has_cores_and_a_card_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(LAUNCHING, "words_of", lambda place, flags: [sys.executable, "-c", SAYS])
    places = [tmp_path / name for name in "abcd"]
    for place in places:
        place.mkdir()
    launcher, begun = Processes(2, pinned=True, cards=("3", "7")), []
    ended = list(launcher(places, lambda place, name: begun.append((place, name))))
    assert sorted(ended) == [(place, None) for place in places]
    assert sorted(begun) == [(place, ASKED) for place in places]
    mine = sorted(os.sched_getaffinity(0))
    halves = {f"{mine[: len(mine) // 2]} 3\n", f"{mine[len(mine) // 2 :]} 7\n"}
    assert {(place / OUTPUT).read_text() for place in places} == halves


def test_more_jobs_than_there_are_cores_or_cards_are_refused():
    if CORES:
        with pytest.raises(HarpError, match=f"--jobs {CORES + 1}: there .*{CORES} processor core"):
            Processes(CORES + 1, pinned=True)
    with pytest.raises(HarpError, match="--jobs 2: there"):
        Processes(2, pinned=True, cards=("0",))


def test_cards_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-ab")
    assert cards() == ["2", "GPU-ab"]


def test_a_reason_is_the_last_that_was_said(tmp_path: Path):
    assert reason_of(tmp_path, 0) is None
    assert reason_of(tmp_path, 9) == "it ended with exit status 9 and said nothing"
    (tmp_path / OUTPUT).write_text("harp: first\nharp: no such thing\nTraceback\n")
    assert reason_of(tmp_path, 2) == "no such thing"


def test_closing_ends_the_cells_that_run(tmp_path, monkeypatch):
    monkeypatch.setattr(
        LAUNCHING,
        "words_of",
        lambda place, flags: [
            sys.executable,
            "-c",
            "import time; time.sleep(0 if 'a' in __import__('sys').argv else 600)",
            place.name,
        ],
    )
    for name in "ab":
        (tmp_path / name).mkdir()
    ends = Processes(2)([tmp_path / "a", tmp_path / "b"], lambda place, name: None)
    assert next(ends) == (tmp_path / "a", None)
    ends.close()  # returns, so the one that would sleep was ended


def test_closing_starts_no_cell_that_was_about_to(tmp_path, monkeypatch):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'started').touch()"
    monkeypatch.setattr(LAUNCHING, "words_of", lambda place, flags: [sys.executable, "-c", code, str(place)])
    for name in "ab":
        (tmp_path / name).mkdir()
    closing = Event()
    # The second cell takes half a second longer to begin than the arena to be closed.
    ends = Processes(2)([tmp_path / "a", tmp_path / "b"], lambda place, name: place.name == "a" or closing.wait())
    assert next(ends) == (tmp_path / "a", None)
    Timer(0.5, closing.set).start()
    ends.close()
    assert [(tmp_path / name / "started").exists() for name in "ab"] == [True, False]

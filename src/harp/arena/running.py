"""The cells of an arena, each an ordinary `harp run` in a process of its own, so that one that fails stops no other."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from harp.arena.grid import Cell
from harp.config import EVALUATION, EXPORT, write_recipe
from harp.drafts import create
from harp.errors import HarpError
from harp.pipeline.display import Display
from harp.runs import Run, remove, write_atomic, write_json, writing

ASKED, FAILED, OUTPUT = "asked.yaml", "failed.json", "output.txt"


def run_cells(
    cells: Sequence[Cell], folder: Path, jobs: int, display: Display, ended: Callable[[], object] = lambda: None
) -> None:
    """Every cell has run, `jobs` at a time; of one that failed the reason lies in its folder, in failed.json.

    What is finished is not done again; a cell that was killed, or failed, goes on from its last checkpoint. `ended` is
    called after each.
    """
    waiting = [cell for cell in cells if not is_finished(cell, folder)]
    processes: set[subprocess.Popen[bytes]] = set()
    with _stopped(ThreadPoolExecutor(jobs), processes) as pool:
        futures: dict[Future[str | None], Cell] = {
            pool.submit(_run, cell, folder, jobs, processes): cell for cell in waiting
        }
        with display.bar("arena", len(cells), len(cells) - len(waiting), 1) as move:
            for future in as_completed(futures):
                reason = future.result()
                move(1, f"{futures[future].folder}{f' failed: {reason}' if reason else ''}")
                ended()


def is_finished(cell: Cell, folder: Path) -> bool:
    """Whether the cell ended, under the settings that are asked for now."""
    run = Run(folder / cell.folder)
    asked = folder / cell.folder / ASKED
    ended = all(run.done(stage) is not None for stage in (EVALUATION, EXPORT))
    return ended and asked.exists() and asked.read_bytes() == _asked(cell)


def _asked(cell: Cell) -> bytes:
    try:
        return write_recipe(cell.recipe)
    except HarpError as error:
        return f"# {error}\n".encode()


def _run(cell: Cell, folder: Path, jobs: int, processes: set["subprocess.Popen[bytes]"]) -> str | None:
    """None once the cell has run, or why it failed."""
    place = folder / cell.folder
    asked = place / ASKED
    remove(place / FAILED)
    write_atomic(asked, _asked(cell))
    try:
        cell.recipe  # noqa: B018  what is no recipe says so here, in its own words
    except HarpError as error:
        return _failed(place, str(error))
    share = max(1, (os.cpu_count() or 1) // jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))}
    remove(place / OUTPUT)
    with writing(place / OUTPUT):
        output = create(place / OUTPUT)
    with output:
        words = [sys.executable, "-m", "harp", "run", str(asked), "--folder", str(place)]
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
        processes.add(process)
        code = process.wait()
        processes.discard(process)
    if code:
        told = (place / OUTPUT).read_text(errors="replace").strip().splitlines()
        said = [line.removeprefix("harp: ") for line in told if line.startswith("harp: ")] or told
        return _failed(place, said[-1] if said else f"it ended with exit status {code} and said nothing")
    return None


def _failed(place: Path, reason: str) -> str:
    write_json(place / FAILED, {"reason": reason})
    return reason


@contextmanager
def _stopped(pool: ThreadPoolExecutor, processes: set["subprocess.Popen[bytes]"]) -> Iterator[ThreadPoolExecutor]:
    """Whatever ends this ends the cells, too; their runs go on from their last checkpoints another time."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(processes):
            process.terminate()
        pool.shutdown()

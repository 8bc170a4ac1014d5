"""How the cells of an arena are set going: as processes of this machine, each with cores or a card of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import IO, Protocol

import torch

from harp.drafts import create
from harp.errors import HarpError
from harp.runs import remove, writing

ASKED, OUTPUT = "asked.yaml", "output.txt"
Begin = Callable[[Path, str], object]
"""Called with a cell's folder as it begins: what is asked of it then lies there in a file of this name."""

Ends = Generator[tuple[Path, str | None], None, None]
"""As they end, the folder of each cell, and why it failed or None."""


class Launcher(Protocol):
    """Runs the cell in each of these folders, with `flags`; whatever ends the iteration ends those under way.

    Their runs go on from their last checkpoints another time.
    """

    def __call__(self, places: Sequence[Path], begin: Begin, flags: Sequence[str] = ()) -> Ends: ...


def words_of(place: Path, flags: Sequence[str] = ()) -> list[str]:
    """The command that runs the cell in `place`."""
    return [sys.executable, "-m", "harp", "run", str(place / ASKED), "--folder", str(place), *flags]


def output_of(place: Path) -> IO[bytes]:
    """The new file for what the cell in `place` says, open for writing."""
    path = place / OUTPUT
    remove(path)
    with writing(path):
        return create(path)


def reason_of(place: Path, code: int) -> str | None:
    """Why the cell in `place` ended with this exit status, by what it said last; None where it did not fail."""
    if not code:
        return None
    path = place / OUTPUT
    told = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    said = [line.removeprefix("harp: ") for line in told if line.startswith("harp: ")] or told
    return said[-1] if said else f"it ended with exit status {code} and said nothing"


class Processes:
    """`jobs` cells at a time, each a process of this machine with an even share of its threads.

    `pinned` ones have cores of their own, and where there are GPUs (`cards`) one of these: so cells do not wait for one
    another. Raises `HarpError` where there are more jobs than cores, or than GPUs if there are any.
    """

    def __init__(self, jobs: int = 1, pinned: bool = False, cards: Sequence[str] = ()):
        self.jobs, self.cards = jobs, tuple(cards) if pinned else ()
        self.cores: list[list[int]] = [[]] * jobs
        self._running: set[subprocess.Popen[bytes]] = set()
        self._starting, self._closed = Lock(), False
        if pinned and hasattr(os, "sched_getaffinity"):
            mine = sorted(os.sched_getaffinity(0))
            _check_enough(jobs, len(mine), "processor core")
            self.cores = [mine[slot * len(mine) // jobs : (slot + 1) * len(mine) // jobs] for slot in range(jobs)]
        if self.cards:
            _check_enough(jobs, len(self.cards), "GPU")

    def __call__(self, places: Sequence[Path], begin: Begin, flags: Sequence[str] = ()) -> Ends:
        self._closed = False
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.jobs):
            slots.put(slot)

        def run(place: Path) -> str | None:
            slot = slots.get()
            try:
                begin(place, ASKED)
                return reason_of(place, self._run(place, slot, flags))
            finally:
                slots.put(slot)

        pool = ThreadPoolExecutor(self.jobs)
        try:
            futures = {pool.submit(run, place): place for place in places}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            with self._starting:
                self._closed = True
                for process in list(self._running):
                    process.terminate()
            pool.shutdown()

    def _run(self, place: Path, slot: int, flags: Sequence[str]) -> int:
        share = len(self.cores[slot]) or max(1, (os.cpu_count() or 1) // self.jobs)
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))}
        if self.cards:
            environment["CUDA_VISIBLE_DEVICES"] = self.cards[slot]
        with output_of(place) as output:
            with self._starting:
                if self._closed:  # while this cell was about to start: nobody would end it
                    return -signal.SIGTERM
                process = subprocess.Popen(words_of(place, flags), stdout=output, stderr=output, env=environment)
                if self.cores[slot]:
                    # Before Python in there has begun to make threads, which take it over.
                    os.sched_setaffinity(process.pid, self.cores[slot])
                self._running.add(process)
            code = process.wait()
            self._running.discard(process)
        return code


def cards() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES calls them."""
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def _check_enough(jobs: int, there: int, what: str) -> None:
    if jobs > there:
        are = f"is {there} {what}" if there == 1 else f"are {there} {what}s"
        raise HarpError(f"--jobs {jobs}: there {are}, and --launcher local gives each cell its own; expected fewer")

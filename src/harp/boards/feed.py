"""Boards fed with a stage's metrics, each step once, also where a killed stage goes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from harp.boards.board import About, Board, numbers
from harp.boards.mlflow import MLflow
from harp.boards.tensorboard import TensorBoard
from harp.boards.wandb import WandB
from harp.consent import remember
from harp.errors import HarpError
from harp.extras import need
from harp.runs import Metrics, read_json, write_json

BOARDS: dict[str, Callable[[About], Board]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
FED = "boards.json"
LOCAL = {"tensorboard"}  # they write beside the run and tell nobody else


class Had(BaseModel):
    """What a board has of a stage: its own name for it, and the last step that it was told."""

    key: str
    step: int


def check_boards(names: Sequence[str]) -> None:
    """Raises `HarpError` with the command that helps where a board's library is not installed."""
    for name in names:
        need(name, name, f"the board {name}")


@contextmanager
def fed(names: Sequence[str], about: About, metrics: Metrics, say: Callable[[str], None]) -> Iterator[None]:
    """While this lasts the boards of these `names` show every record of `metrics`, those already there first.

    What a board has is kept in the stage's folder, so that it is told each step once: a resumed stage makes the records
    after its checkpoint again, which are the same. Raises `HarpError` where a board cannot be opened; one that fails
    later is told by `say`, and training goes on.
    """
    if not names:
        yield
        return
    feed, ended = _Feed(names, about, say), False
    for record in metrics:
        feed(record)
    metrics.listeners.append(feed)
    try:
        yield
        ended = True
    finally:
        metrics.listeners.remove(feed)
        feed.close(ended)


class _Feed:
    def __init__(self, names: Sequence[str], about: About, say: Callable[[str], None]):
        self._path, self._say = about.folder / FED, say
        self._had: dict[str, dict[str, Any]] = read_json(self._path, dict[str, Had]) if self._path.exists() else {}
        self._open: dict[str, Board] = {}
        for name in dict.fromkeys(names):
            had = self._had.get(name)
            self._open[name] = board = _opened(name, replace(about, **had) if had else about)
            self._had[name] = {"key": board.key, "step": had["step"] if had else 0}

    def __call__(self, record: Mapping[str, Any]) -> None:
        step = record["step"]
        new = [name for name in self._open if step > self._had[name]["step"]]
        if not new:
            return
        # Before it is told: killed in between it lacks a point, but has none twice.
        for name in new:
            self._had[name]["step"] = step
        write_json(self._path, self._had)
        values = {name: value for name, value in numbers(record) if name != "step"}
        for name in new:
            self._try(name, lambda board: board.log(step, values))

    def close(self, ended: bool) -> None:
        for name in list(self._open):
            self._try(name, lambda board: board.close(ended))

    def _try(self, name: str, do: Callable[[Board], None]) -> None:
        try:
            do(self._open[name])
        except Exception as error:  # a server that is gone, a disk that is full: no reason to stop training
            del self._open[name]
            self._say(f"note: {name} shows no more of this stage: {type(error).__name__}: {error}")


def mark(name: str) -> str:
    """What is remembered (`harp.consent`) of this user's metrics having been shown on that board."""
    return f"board:{name}"


def _opened(name: str, about: About) -> Board:
    try:
        board = BOARDS[name](about)
    except HarpError:
        raise
    except Exception as error:  # a server that is not there, a login that is refused
        raise HarpError(f"boards: {name} cannot be opened: {type(error).__name__}: {error}") from error
    remember([mark(name)])
    return board

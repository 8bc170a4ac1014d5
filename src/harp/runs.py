"""A run directory: metrics as JSON lines, done-markers, one process at a time, the environment.

What its files are and how they are written and read stands in `harp.files` and `harp.trees`, which others reach
through here.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pydantic
import safetensors
import torch
from filelock import FileLock, Timeout

from harp import processor
from harp.errors import HarpError
from harp.files import (
    DamagedError,
    checked,
    file_digest,
    hold,
    let_go,
    parse_json,
    read_json,
    remove,
    write_atomic,
    write_json,
    writing,
)
from harp.trees import Tree, digest, load_tensors, load_tree, save_tree, tree_digest
from harp.version import VERSION, commit

__all__ = [
    "DONE",
    "DamagedError",
    "Done",
    "Metrics",
    "Run",
    "Tree",
    "checked",
    "digest",
    "environment",
    "file_digest",
    "file_word",
    "load_tensors",
    "load_tree",
    "read_json",
    "remove",
    "save_tree",
    "tree_digest",
    "write_atomic",
    "write_json",
    "writing",
]


DONE = "done.json"


class _Line(pydantic.BaseModel, extra="allow"):
    """The least that a line of metrics says."""

    step: int


def file_word(what: str, name: str) -> str:
    """`name` itself, which is to be part of a file's name; raises `HarpError` where it would lead to another folder."""
    if not name or name.startswith(".") or set(name) & set("/\\\0"):
        raise HarpError(f"{what} cannot be called {name!r}: it becomes a file's name; expected a word without / or \\")
    return name


class Done(pydantic.BaseModel, extra="allow"):
    """What a stage's done-marker says, each stage its part of it."""

    notes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    selected_step: int | None = None
    seconds: float | None = None
    recipe: dict[str, Any] | None = None
    files: dict[str, str] = {}


class Metrics:
    """A file of JSON lines, one record per moment, that can be cut back to a step and continued.

    `listeners` are told each record that is added, once it is in the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The whole records; a last line that a kill cut short is left out; `DamagedError` for any other line."""
        for number, line in enumerate(self._lines(), 1):
            try:
                value = parse_json(line)
            except (ValueError, RecursionError) as error:
                raise DamagedError(self.path, f"{self.path}: line {number} is not readable JSON: {error}") from None
            checked(self.path, value, _Line)
            yield value

    def add(self, record: Mapping[str, Any]) -> None:
        """`record` is the file's last line; a line before it that a kill cut short is gone."""
        line = json.dumps(record, allow_nan=False).encode()
        write_atomic(self.path, b"".join([*(whole + b"\n" for whole in self._lines()), line, b"\n"]))
        for listener in self.listeners:
            listener(record)

    def rewind(self, step: int) -> None:
        """Only records up to `step` remain: those after it will be written again by the resumed stage."""
        lines = [json.dumps(record) + "\n" for record in self if record["step"] <= step]
        write_atomic(self.path, "".join(lines).encode())

    def _lines(self) -> list[bytes]:
        return self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []


class Run:
    """A run directory: what is finished in it, and where each stage's files lie.

    Raises `HarpError` where no directory can be there because a file is.
    """

    def __init__(self, folder: Path):
        with _possible(folder):
            blocked = [place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()]
        if blocked:
            raise HarpError(f"{folder} cannot be a run's folder: {blocked[0]} is a file; choose another --folder")
        self.folder = folder
        self._lock = FileLock(folder / ".lock")
        self._claimed: tuple[int, int] | None = None

    def claim(self) -> None:
        """This process alone works in the folder until `release` or its end; raises `HarpError` where another does.

        So it does where a folder inside is a link: what is written must not land elsewhere. Until it ends nothing is
        written in a folder that was put there in its place.
        """
        self.check()
        if linked := _linked(self.folder):
            raise HarpError(f"{linked[0]} is a link, and a run writes in its own folder alone; put a folder there")
        with writing(self.folder / ".lock"):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise HarpError(
                    f"another process is at work in {self.folder}; wait for it or choose another folder"
                ) from None
            self._claimed = self._mark()
        hold(self)

    def check(self) -> None:
        """Raises `HarpError` where the folder that this process claimed was moved, deleted, or begun anew."""
        if self._claimed is not None and self._mark() != self._claimed:
            raise HarpError(
                f"{self.folder} was moved, deleted or begun anew while this process worked in it; it stops here, and "
                "what is there now stays as it is"
            )

    def _mark(self) -> tuple[int, int] | None:
        # The lock's file is open as long as the folder is claimed, so no other file is given its number.
        try:
            found = os.stat(self.folder / ".lock")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def release(self) -> None:
        """Others may work in the folder again."""
        let_go(self)
        self._claimed = None
        self._lock.release(force=True)  # each stage claims anew, and the lock counts

    def at(self, stage: str) -> Path:
        return self.folder / stage

    def done(self, stage: str) -> dict[str, Any] | None:
        """What the stage's done-marker says, or None where the stage has not ended."""
        marker = self.at(stage) / DONE
        value: dict[str, Any] | None = read_json(marker, Done) if marker.exists() else None
        return value

    def finish(self, stage: str, record: Mapping[str, Any]) -> None:
        """The stage is done: its marker, written after all its other files, holds `record`."""
        write_json(self.at(stage) / DONE, dict(record))


def _linked(folder: Path) -> list[str]:
    """Folders inside that are links. A file may be one: it is replaced, never written through."""
    places = (f"{place}/{name}" for place, names, _ in os.walk(folder) for name in names)
    return [place for place in places if os.path.islink(place)]


@contextmanager
def _possible(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HarpError(f"{folder} cannot be a run's folder: {error.strerror}; choose another --folder") from None


def environment(device: torch.device) -> dict[str, Any]:
    """What a result depends on beside the recipe: harp and its commit, versions, processor, threads."""
    return {
        "harp": VERSION,
        "commit": commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": processor.name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
    }

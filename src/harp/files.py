"""Files that are whole or absent, written without surprises and believed only after a look.

Whatever goes wrong with the disk while writing is one sentence, and what was there before stays. Whatever is read
back is parsed, compared with its digest where it has one, and checked against a type where one is asked for.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import pydantic

from harp.drafts import create, draft
from harp.errors import HarpError

LOG = logging.getLogger(__name__)
MARK = "recipe.yaml"  # what tells a run's folder from others
_DEEPEST = 4  # a run's files lie no further below its folder


class DamagedError(HarpError):
    """A file that is missing, or is not what was written there; its text names the file and the way out."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{what}; {_way_out(path)}")


def _way_out(path: Path) -> str:
    for folder in list(path.parents)[:_DEEPEST]:
        if (folder / MARK).is_file():
            anew = folder / path.relative_to(folder).parts[0]
            return f"bring back a whole copy, or delete {anew} and run the same command, which makes it anew"
    return "bring back a whole copy"


class Held(Protocol):
    """A folder in which this process works alone."""

    folder: Path

    def check(self) -> None:
        """Raises `HarpError` where the folder is no longer this process's."""


@dataclass
class _Pen:
    writes: bool = True
    held: WeakSet[Held] = field(default_factory=WeakSet)


_pen = _Pen()


@contextmanager
def writes(allowed: bool) -> Iterator[None]:
    """Inside, this process writes and removes files, or leaves that to another, which does the same work."""
    before, _pen.writes = _pen.writes, allowed
    try:
        yield
    finally:
        _pen.writes = before


def hold(folder: Held) -> None:
    """From now on the folder is asked before a file in it is written or removed, until `let_go`."""
    _pen.held.add(folder)


def let_go(folder: Held) -> None:
    _pen.held.discard(folder)


def _check_held(path: Path) -> None:
    for held in list(_pen.held):
        if path.is_relative_to(held.folder):
            held.check()


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Inside, what the disk refuses about `path` becomes a `HarpError`: one sentence with the reason and the way out.

    `size`: how many bytes are to be written.
    """
    try:
        yield
    except OSError as error:
        raise HarpError(f"cannot write {path}: {_reason(path, error, size)}") from None


def _reason(path: Path, error: OSError, size: int) -> str:
    said = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
        return (
            f"{said} ({size:,} bytes needed, {free:,} free); make room and run the same command again, which goes on "
            "from what is there"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{said}; give yourself the right to write there, or choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return f"{said}; choose a shorter name or folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"{said}; choose another path, on which no file stands for a folder and no folder for a file"
    return said


def write_atomic(path: Path, data: bytes) -> None:
    """`path` holds `data`; a reader or a crash at any moment finds the old file or the new one, never a part.

    Raises `HarpError` in one sentence for a full disk, a folder that may not be written, a name that is too long.
    """
    if not _pen.writes:
        return
    _check_held(path)
    with writing(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(path) as partial, create(partial) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    LOG.debug("wrote %s, %d bytes", path, len(data))


def remove(path: Path) -> None:
    """There is no file `path`; raises `HarpError` where it may not be removed."""
    if not _pen.writes:
        return
    _check_held(path)
    with writing(path):
        path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """The file's SHA-256, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """`path` holds `value` as indented JSON, atomically; NaN and infinity are refused with `ValueError`."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, kind: Any = None) -> Any:
    """The value in `path`, as it is; `DamagedError` where it is missing, not JSON, or no value of the type `kind`."""
    try:
        value = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(path, f"no file {path}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise DamagedError(path, f"{path} is not readable JSON: {error}") from None
    if kind is not None:
        checked(path, value, kind)
    return value


def parse_json(text: bytes | str) -> Any:
    """The value that the JSON `text` holds; NaN and infinity, which nothing here writes, are a `ValueError`, too."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    return json.loads(text, parse_constant=refuse)


def checked(path: Path, value: Any, kind: type[pydantic.BaseModel] | Any) -> Any:
    """`value`, which was read from `path`, as an instance of the type `kind`; raises `DamagedError` where it is none.

    `kind` is any type that pydantic knows: a dataclass, a model, `dict[str, int]`.
    """
    try:
        return _adapter(kind).validate_python(value)
    except (pydantic.ValidationError, RecursionError) as error:
        raise DamagedError(path, f"{path} is damaged or of another version: {_problem(error)}") from None


@lru_cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind, config=None if _configured(kind) else {"arbitrary_types_allowed": True})


def _configured(kind: Any) -> bool:
    # Pydantic refuses a second configuration for what may have one of its own.
    return isinstance(kind, type) and (issubclass(kind, pydantic.BaseModel) or hasattr(kind, "__dataclass_fields__"))


_NO_NAMES = ("model_type", "model_attributes_type", "dataclass_type", "dict_type")


def _problem(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return "nested too deeply"
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"it lacks {where}"
    if first["type"] in _NO_NAMES:
        message = "expected values by name"
    shown = repr(first["input"])
    got = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{f'{where}: ' if where else ''}{message[0].lower()}{message[1:]}, got {got}"

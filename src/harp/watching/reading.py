"""Files that somebody else is writing: what cannot be read now is not there yet."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harp.errors import HarpError

Value = TypeVar("Value")
LOCK, LOCKS = ".lock", Path("/proc/locks")


def patiently(read: Callable[[], Value], otherwise: Value) -> Value:
    """What `read` gives, or `otherwise` where the file is missing, half there or damaged."""
    try:
        return read()
    except (HarpError, OSError, ValueError, KeyError, TypeError):
        return otherwise


def changed_at(path: Path) -> float | None:
    """When the file was last written, in seconds since 1970; None where it is not there."""
    return patiently(lambda: path.stat().st_mtime, None)


def at_work(folder: Path) -> bool | None:
    """Whether a process of this machine holds the run's lock; None where the system does not tell.

    The kernel's list is read, so the lock itself is not touched.
    """
    if not LOCKS.exists():
        return None
    try:
        inode = os.stat(folder / LOCK).st_ino
        held = LOCKS.read_text().splitlines()
    except OSError:
        return False
    return any(word.endswith(f":{inode}") and word.count(":") == 2 for line in held for word in line.split())

"""What this user has run or fetched by naming it himself, kept between processes.

A run's folder says nothing of itself that can be believed: neither who made it nor what its code does. What can be
believed is what happened here, so whatever runs or is fetched leaves a mark outside of every folder of a run.
"""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def remember(marks: Iterable[str]) -> None:
    """Each of `marks` is known from now on; where the user's folder of states cannot be written, nothing is."""
    with suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
        for mark in marks:
            path = _place(mark)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)


def is_known(mark: str) -> bool:
    """Whether `mark` was remembered by this user, in this process or an earlier one."""
    try:
        return _place(mark).is_file()
    except (OSError, RuntimeError):
        return False


def _place(mark: str) -> Path:
    """An empty file whose name is the mark's digest: nothing has to be locked, and nobody can read paths in it."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return state / "harp" / "named" / hashlib.sha256(os.fsencode(mark)).hexdigest()

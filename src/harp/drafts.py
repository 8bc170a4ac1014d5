"""Files that are not whole yet: beside what they become, under names that nobody can foresee, never through a link."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

ABANDONED = 24 * 3600  # seconds; nothing is written, checked and renamed for as long, whatever disk or machine
_TAIL = r"(\.[0-9a-f]{16}\.partial)+"


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A path beside `path` under which there is nothing; what lies there at the end becomes `path` in one rename.

    Where that fails, and where something is raised inside, it is gone and `path` is as it was. Drafts of `path` that
    were last written to a day ago are gone, too: whoever wrote them was killed. Raises `OSError` as the disk does.
    """
    _sweep(path)
    place = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        yield place
        os.replace(place, path)
    except BaseException:  # also an interrupt; and on a full disk it would take the room that is left
        with suppress(OSError):
            place.unlink()
        raise


def create(path: Path) -> IO[bytes]:
    """The new file `path`, open for writing, with the rights that the umask leaves.

    Raises `FileExistsError` where there is something, be it a link to nowhere.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb")


def _sweep(path: Path) -> None:
    # By age and not by who is alive: process numbers come again, and are another machine's on a shared disk.
    mine = re.compile(rf"\.{{1,2}}{re.escape(path.name)}{_TAIL}")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if mine.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                os.unlink(entry.path)

"""Whether a file is still the one that was found."""

import os
from pathlib import Path
from typing import NamedTuple

from harp.errors import HarpError


class Stamp(NamedTuple):
    """A file's bytes and when it was last written, in nanoseconds."""

    size: int
    written: int


def stamped(path: Path | str) -> Stamp:
    """The stamp of the file now; raises `HarpError` where there is none."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise HarpError(f"{path} cannot be read: {error.strerror}") from None
    return Stamp(status.st_size, status.st_mtime_ns)


def read_stamped(path: Path | str, stamp: Stamp, start: int = 0, size: int | None = None) -> bytes:
    """`size` bytes of the file from `start` on, or all.

    Raises `HarpError` where it is not as it was stamped, or has not so many bytes.
    """
    if size is not None and start + size > stamp.size:
        raise HarpError(
            f"{path} is cut off: {size:,} bytes from {start:,} on are to be read, and it has {stamp.size:,}"
        )
    try:
        with open(path, "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            if Stamp(status.st_size, status.st_mtime_ns) != stamp:
                raise changed(path)
            return os.pread(stream.fileno(), stamp.size - start if size is None else size, start)
    except OSError as error:
        raise HarpError(f"{path}, which was there when the set was opened, cannot be read: {error.strerror}") from None


def changed(path: Path | str) -> HarpError:
    """What to raise for a file that is another than when it was stamped."""
    return HarpError(f"{path} has changed since the set was opened; leave the images alone while a run reads them")

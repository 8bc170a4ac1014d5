"""Picture files by number, a million of them in some fifty megabytes."""

import os
from array import array
from collections.abc import Iterable
from pathlib import Path

from harp.data.bounds import check_encoded
from harp.data.stamps import Stamp, read_stamped, stamped
from harp.data.stored import Digest


class Files:
    """The `Places` of the files in and below `root`, in the order in which they are given.

    Raises `HarpError` for a file that is not there, now or when it is read, and for one that has changed by then.
    """

    def __init__(self, root: Path, files: Iterable[Path]):
        # One text and numbers: as objects of Python's, names would take a few times as much.
        self._root, self._names, self._ends = os.fsencode(root), bytearray(), array("q", [0])
        self._sizes, self._written = array("q"), array("q")
        for file in files:
            stamp = stamped(file)
            self._names += os.fsencode(file.relative_to(root))
            self._ends.append(len(self._names))
            self._sizes.append(stamp.size)
            self._written.append(stamp.written)

    def __len__(self) -> int:
        return len(self._sizes)

    def path(self, number: int) -> Path:
        """The file."""
        return Path(self.where(number))

    def where(self, number: int) -> str:
        return os.fsdecode(os.path.join(self._root, bytes(self._names[self._ends[number] : self._ends[number + 1]])))

    def read(self, number: int) -> bytes:
        check_encoded(self.where(number), self._sizes[number])
        return read_stamped(self.where(number), Stamp(self._sizes[number], self._written[number]))

    @property
    def size(self) -> int:
        return sum(self._sizes)

    def update(self, digest: Digest) -> None:
        # Where the folder lies and when it was copied there is nothing to its images.
        digest.update(b"files")
        for held in (self._names, self._ends, self._sizes):
            digest.update(memoryview(held).cast("B"))

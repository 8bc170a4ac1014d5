"""Pictures in the rows of Parquet files, by number."""

import threading
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

from harp.data.columns import (
    checked_bytes,
    checked_label,
    image_column,
    label_column,
    numbers_of,
    opened,
    translated,
)
from harp.data.stamps import Stamp, changed, read_stamped, stamped
from harp.data.stored import Digest
from harp.errors import HarpError
from harp.extras import need

LARGEST = 1 << 28  # bytes of one row group's pictures, of which every thread holds one


class Rows:
    """The `Places` of the pictures in the rows of `files`, one file after the other.

    A row is read with its row group, the smallest piece that pyarrow reads; each thread keeps the last one, so that
    rows in their order cost one reading. `labels` are those of the rows, as numbers in `names`, which the file `first`
    lists. Raises `HarpError` for what `columns` refuses and, when it is read, for a row group of more than 256 MB, for
    a file that has changed since, and for a row without a picture.
    """

    def __init__(self, files: list[Path], first: Path, names: tuple[str, ...] | None):
        self.files = files
        self.labels: list[int] = []
        self._shards: list[_Shard] = []
        for file in files:
            with opened(file) as table:
                self._shards.append(_Shard(table.metadata, image_column(file, table.schema_arrow), stamped(file)))
            self.labels += _labels(file, numbers_of(file, first, names))
        self._starts: list[int] = [0, *accumulate(shard.groups[-1] for shard in self._shards)]
        self._last = threading.local()

    def __len__(self) -> int:
        return self._starts[-1]

    def where(self, number: int) -> str:
        shard, row = self._place(number)
        return f"{self.files[shard]}, row {row}"

    def read(self, number: int) -> bytes:
        shard, row = self._place(number)
        starts = self._shards[shard].groups
        group = bisect_right(starts, row) - 1
        if getattr(self._last, "place", None) != (shard, group):
            self._last.cells, self._last.place = self._column(shard, group), (shard, group)
        return checked_bytes(self._last.cells[row - starts[group]].as_py(), self.where(number))

    def update(self, digest: Digest) -> None:
        for file, shard in zip(self.files, self._shards, strict=True):
            # The last eight bytes say how long the footer before them is.
            end = read_stamped(file, shard.stamp, shard.stamp.size - 8)
            footer = read_stamped(file, shard.stamp, shard.stamp.size - 8 - int.from_bytes(end[:4], "little"))
            digest.update(f"{file.name} {shard.stamp.size}".encode() + footer)

    def _place(self, number: int) -> tuple[int, int]:
        shard = bisect_right(self._starts, number) - 1
        return shard, number - self._starts[shard]

    def _column(self, number: int, group: int) -> Any:
        """The cells of a row group's pictures."""
        file, shard, arrow = self.files[number], self._shards[number], need("pyarrow", "images")
        if (size := shard.size(group)) > LARGEST:
            raise HarpError(
                f"{file}: row group {group} holds {size / 1e6:,.0f} MB of pictures, of which each is read with all "
                f"others; write the shards with row groups of at most {LARGEST / 1e6:,.0f} MB (row_group_size=100)"
            )
        if stamped(file) != shard.stamp:
            raise changed(file)
        try:
            with need("pyarrow.parquet", "images").ParquetFile(file, metadata=shard.footer) as table:
                return table.read_row_group(group, columns=[shard.column], use_threads=False).column(0)
        except (arrow.ArrowException, OSError) as error:
            raise HarpError(f"{file} is not a whole Parquet file: {error}") from None


class _Shard:
    """A file's footer, the name of the column with its pictures, and at which row each row group begins and ends."""

    def __init__(self, footer: Any, column: str, stamp: Stamp):
        self.footer, self.column, self.stamp = footer, column, stamp
        self.groups: list[int] = [
            0,
            *accumulate(footer.row_group(group).num_rows for group in range(footer.num_row_groups)),
        ]

    def size(self, group: int) -> int:
        """Bytes of a row group's pictures."""
        found = self.footer.row_group(group)
        parts = (found.column(place) for place in range(found.num_columns))
        return sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == self.column)


def _labels(file: Path, numbers: list[int] | None) -> list[int]:
    """The labels of a file's rows."""
    arrow, found = need("pyarrow", "images"), list[int]()
    with opened(file) as table:
        column = label_column(file, table.schema_arrow)
        try:
            for piece in table.iter_batches(columns=[column]):
                for label in piece.column(column).to_pylist():
                    where = f"{file}, row {len(found)}"
                    found.append(translated(checked_label(label, where), numbers, where))
        except (arrow.ArrowException, OSError) as error:
            raise HarpError(f"{file} is not a whole Parquet file: {error}") from None
    return found

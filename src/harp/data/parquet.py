"""Image classification sets as Parquet files, in the layout that the Hugging Face hub uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harp.data.base import DATA, Dataset, Images, Labelled, located, required, unknown
from harp.data.columns import (
    LABEL,
    checked_bytes,
    checked_label,
    class_names,
    image_column,
    label_column,
    numbers_of,
    opened,
    translated,
)
from harp.data.pictures import decode
from harp.data.reading import AS_THEY_ARE, Reading
from harp.data.rows import Rows
from harp.data.shards import find_shards, whole
from harp.data.stored import IN_FILES, stored
from harp.errors import HarpError
from harp.extras import need

PIECE = 64  # rows read at once: one value that all rows point to is held once in the file, and here each time
HELD = Reading(stream="never")


@DATA.register("parquet")
def parquet(path: Path | None, reading: Reading = AS_THEY_ARE) -> Dataset:
    """A folder with train-*.parquet and test-*.parquet (or validation-*), as on the Hugging Face hub.

    The files may lie in one subfolder, such as `data/`. Never mirrored, padded by an eighth of the side: a
    recipe that knows more says so. Raises `HarpError` as `read_parquet` does, and for a path that is None or
    does not exist.
    """
    root = required(path, "parquet", "a folder with train-*.parquet and test-*.parquet")
    return unknown("parquet", *read_parquet(root, reading))


def read_parquet(
    root: Path, reading: Reading = HELD
) -> tuple[Labelled, Labelled, tuple[str, ...] | None, tuple[str, ...]]:
    """Training part, test part, class names (None where there are none) and notes of the Parquet set in `root`.

    Images are in the column `img` or `image`, or in the only one with encoded bytes; labels in `label`, `labels` or
    `fine_label`. Class names are those of the first training file's huggingface metadata; a file that lists them in
    another order has its labels changed to that one. A test part without labels (none at all, or -1 throughout) is
    passed over for one with labels, with a note. Raises `HarpError` for missing shards or columns, a damaged file or
    picture (naming file and row), a missing label, class names that another file lacks, and images of unequal size.
    """
    train_files, tests = find_shards(root)
    part = next((name for name, files in tests.items() if _is_labelled(files)), next(iter(tests)))
    passed = list(tests)[: list(tests).index(part)]
    notes = [f"the {name} part has no labels, so the test images are those of the {part} part" for name in passed]
    names, first = class_names(train_files[0]), train_files[0]
    parts = [train_files, whole(tests[part])]
    if reading.stream != "never":
        rows = [Rows(files, first, names) for files in parts]
        if made := stored([(part, part.labels) for part in rows], reading):
            return *made, names, (*notes, IN_FILES)
    train, test = (_read(files, first, names, reading) for files in parts)
    return train, test, names, tuple(notes)


def _is_labelled(files: list[Path]) -> bool:
    """Whether any image of the files has a label; the hub's unlabelled parts have -1, nothing, or no such column."""
    for file in files:
        with opened(file) as table:
            if not any(name in table.schema_arrow.names for name in LABEL):
                continue
            column = label_column(file, table.schema_arrow)
            for piece in table.iter_batches(columns=[column]):
                if any(label is not None and label != -1 for label in piece.column(column).to_pylist()):
                    return True
    return False


def _read(files: list[Path], first: Path, names: tuple[str, ...] | None, reading: Reading) -> Images:
    """The images of the files, labelled in the order of `names`, which are those in the file `first`."""
    labels: list[int] = []

    def pictures() -> Iterator[tuple[str, bytes]]:
        for file in files:
            numbers = numbers_of(file, first, names)
            for row, (data, label) in enumerate(_rows(file)):
                where = f"{file}, row {row}"
                labels.append(translated(checked_label(label, where), numbers, where))
                yield where, checked_bytes(data, where)

    with located(str(files[0].parent)):
        found = decode(pictures(), reading.fit, reading.threads)
        return Images(found, torch.tensor(labels, dtype=torch.int64))


def _rows(file: Path) -> Iterator[tuple[Any, Any]]:
    """The image and label cells of each row; in pieces, as a decoded shard can be large."""
    arrow = need("pyarrow", "images")
    with opened(file) as table:
        image, label = image_column(file, table.schema_arrow), label_column(file, table.schema_arrow)
        try:
            for piece in table.iter_batches(batch_size=PIECE, columns=[image, label]):
                yield from zip(piece.column(image).to_pylist(), piece.column(label).to_pylist(), strict=True)
        except (arrow.ArrowException, OSError) as error:
            raise HarpError(f"{file} is not a whole Parquet file: {error}") from None

"""Image classification sets as Parquet files, in the layout that the Hugging Face hub uses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harp.data.base import DATA, Dataset, Images, located, required, unknown
from harp.data.pictures import decode
from harp.data.shards import find_shards
from harp.errors import HarpError, choices
from harp.extras import need

IMAGE = ("img", "image")
LABEL = ("label", "labels", "fine_label")


@DATA.register("parquet")
def parquet(path: Path | None) -> Dataset:
    """A folder with train-*.parquet and test-*.parquet (or validation-*), as on the Hugging Face hub.

    The files may lie in one subfolder, such as `data/`. Never mirrored, padded by an eighth of the side: a
    recipe that knows more says so. Raises `HarpError` as `read_parquet` does, and for a path that is None or
    does not exist.
    """
    root = required(path, "parquet", "a folder with train-*.parquet and test-*.parquet")
    return unknown("parquet", *read_parquet(root))


def read_parquet(root: Path) -> tuple[Images, Images, tuple[str, ...]]:
    """Training part, test part and class names of the Parquet set in `root`.

    Images are in the column `img` or `image`, or in the only one with encoded bytes; labels in `label`,
    `labels` or `fine_label`. Class names come from the schema's huggingface metadata, else they are the
    numbers. Raises `HarpError` for missing shards or columns, a damaged file or picture (naming file and
    row), a missing label, and images of unequal size.
    """
    train_files, test_files = find_shards(root)
    train, test = _read(train_files), _read(test_files)
    most = max(int(part.labels.max()) for part in (train, test))
    return train, test, class_names(train_files[0]) or tuple(str(label) for label in range(most + 1))


def class_names(file: Path) -> tuple[str, ...] | None:
    """The class names in the file's huggingface metadata, or None where there are none."""
    with _opened(file) as table:
        label = _label_column(file, table.schema_arrow)
        metadata = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(str(name) for name in json.loads(metadata)["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return None


def _read(files: list[Path]) -> Images:
    labels: list[int] = []

    def pictures() -> Iterator[tuple[str, bytes]]:
        for file in files:
            for row, (data, label) in enumerate(_rows(file)):
                labels.append(_checked_label(label, f"{file}, row {row}"))
                yield f"{file}, row {row}", _checked_bytes(data, f"{file}, row {row}")

    with located(str(files[0].parent)):
        return Images(decode(pictures()), torch.tensor(labels, dtype=torch.int64))


def _rows(file: Path) -> Iterator[tuple[Any, Any]]:
    """The image and label cells of each row; in pieces of 1,024 rows, as a decoded shard can be large."""
    arrow = need("pyarrow", "images")
    with _opened(file) as table:
        image, label = _image_column(file, table.schema_arrow), _label_column(file, table.schema_arrow)
        try:
            for piece in table.iter_batches(batch_size=1024, columns=[image, label]):
                yield from zip(piece.column(image).to_pylist(), piece.column(label).to_pylist(), strict=True)
        except (arrow.ArrowException, OSError) as error:
            raise HarpError(f"{file} is not a whole Parquet file: {error}") from None


def _opened(file: Path) -> Any:
    arrow = need("pyarrow", "images")
    try:
        return need("pyarrow.parquet", "images").ParquetFile(file)
    except (arrow.ArrowException, OSError) as error:
        raise HarpError(f"{file} is not a whole Parquet file: {error}") from None


def _image_column(file: Path, schema: Any) -> str:
    encoded = [field.name for field in schema if _is_encoded(field.type)]
    named = [name for name in IMAGE if name in encoded] or encoded
    if len(named) != 1:
        found = f"several columns of encoded images: {', '.join(named)}" if named else "no column of encoded images"
        raise HarpError(f"{file} has {found}; expected one, called img or image; {choices('image', schema.names)}")
    return named[0]


def _is_encoded(kind: Any) -> bool:
    types = need("pyarrow.types", "images")
    if types.is_struct(kind):
        return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(file: Path, schema: Any) -> str:
    types = need("pyarrow.types", "images")
    for name in LABEL:
        if name in schema.names and types.is_integer(schema.field(name).type):
            return name
    raise HarpError(f"{file} has no whole-number column {', '.join(LABEL)}; {choices('label', schema.names)}")


def _checked_bytes(cell: Any, where: str) -> bytes:
    data = cell["bytes"] if isinstance(cell, dict) else cell
    if data is None:
        raise HarpError(f"{where} holds no image bytes; expected the encoded picture itself, not a path to it")
    return bytes(data)


def _checked_label(cell: Any, where: str) -> int:
    if cell is None:
        raise HarpError(f"{where} has no label; expected a whole number")
    return int(cell)

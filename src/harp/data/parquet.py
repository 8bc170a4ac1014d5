"""Image classification sets as Parquet files, in the layout that the Hugging Face hub uses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harp.data.base import DATA, Dataset, Images, located, required, unknown
from harp.data.pictures import decode
from harp.data.shards import find_shards, whole
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


def read_parquet(root: Path) -> tuple[Images, Images, tuple[str, ...] | None, tuple[str, ...]]:
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
    return _read(train_files, first, names), _read(whole(tests[part]), first, names), names, tuple(notes)


def class_names(file: Path) -> tuple[str, ...] | None:
    """The class names in the file's huggingface metadata, or None where there are none."""
    with _opened(file) as table:
        label = _label_column(file, table.schema_arrow)
        metadata = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(str(name) for name in json.loads(metadata)["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_labelled(files: list[Path]) -> bool:
    """Whether any image of the files has a label; the hub's unlabelled parts have -1, nothing, or no such column."""
    for file in files:
        with _opened(file) as table:
            if not any(name in table.schema_arrow.names for name in LABEL):
                continue
            column = _label_column(file, table.schema_arrow)
            for piece in table.iter_batches(columns=[column]):
                if any(label is not None and label != -1 for label in piece.column(column).to_pylist()):
                    return True
    return False


def _read(files: list[Path], first: Path, names: tuple[str, ...] | None) -> Images:
    """The images of the files, labelled in the order of `names`, which are those in the file `first`."""
    labels: list[int] = []

    def pictures() -> Iterator[tuple[str, bytes]]:
        for file in files:
            numbers = _numbers(file, first, names)
            for row, (data, label) in enumerate(_rows(file)):
                where = f"{file}, row {row}"
                labels.append(_translated(_checked_label(label, where), numbers, where))
                yield where, _checked_bytes(data, where)

    with located(str(files[0].parent)):
        return Images(decode(pictures()), torch.tensor(labels, dtype=torch.int64))


def _numbers(file: Path, first: Path, names: tuple[str, ...] | None) -> list[int] | None:
    """What each label of the file is in the order of `names`; None where it is that itself."""
    own = class_names(file)
    if own is None or names is None or own == names:
        return None
    if len(set(own)) < len(own) or not set(own) <= set(names):
        strange = next((name for name in own if name not in names), "one name twice")
        raise HarpError(
            f"{file} lists the classes {_few(own)}, where {first} lists {_few(names)}; {strange!r} cannot be matched"
        )
    return [names.index(name) for name in own]


def _translated(label: int, numbers: list[int] | None, where: str) -> int:
    if numbers is None or label < 0:
        return label
    if label >= len(numbers):
        raise HarpError(f"{where} has the label {label}; expected one of its file's {len(numbers)} classes")
    return numbers[label]


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


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
    held = [f"{name} holds {schema.field(name).type}" for name in LABEL if name in schema.names]
    told = held[0] if held else choices("label", schema.names)
    raise HarpError(f"{file} has no whole-number column {', '.join(LABEL)}; {told}")


def _checked_bytes(cell: Any, where: str) -> bytes:
    data = cell["bytes"] if isinstance(cell, dict) else cell
    if data is None:
        raise HarpError(f"{where} holds no image bytes; expected the encoded picture itself, not a path to it")
    return bytes(data)


def _checked_label(cell: Any, where: str) -> int:
    if cell is None:
        raise HarpError(f"{where} has no label; expected a whole number")
    return int(cell)

"""The columns of a Parquet file with labelled pictures, and what its cells may hold."""

import json
from pathlib import Path
from typing import Any

from harp.data.base import whole_label
from harp.data.bounds import check_packed
from harp.errors import HarpError, choices
from harp.extras import need

IMAGE = ("img", "image")
LABEL = ("label", "labels", "fine_label")


def class_names(file: Path) -> tuple[str, ...] | None:
    """The class names in the file's huggingface metadata, or None where there are none."""
    with opened(file) as table:
        label = label_column(file, table.schema_arrow)
        metadata = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(str(name) for name in json.loads(metadata)["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return None


def numbers_of(file: Path, first: Path, names: tuple[str, ...] | None) -> list[int] | None:
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


def translated(label: int, numbers: list[int] | None, where: str) -> int:
    if numbers is None or label < 0:
        return label
    if label >= len(numbers):
        raise HarpError(f"{where} has the label {label}; expected one of its file's {len(numbers)} classes")
    return numbers[label]


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def opened(file: Path) -> Any:
    arrow = need("pyarrow", "images")
    try:
        table = need("pyarrow.parquet", "images").ParquetFile(file)
    except (arrow.ArrowException, OSError) as error:
        raise HarpError(f"{file} is not a whole Parquet file: {error}") from None
    try:
        _check_sizes(file, table.metadata)
    except HarpError:
        table.close()
        raise
    return table


def _check_sizes(file: Path, footer: Any) -> None:
    """Raises `HarpError` for a footer that tells of more rows, or more bytes of them, than the file can hold."""
    size = file.stat().st_size
    if footer.num_rows > size:
        raise HarpError(
            f"{file} says that it has {footer.num_rows:,} rows, in {size:,} bytes; expected a picture in each"
        )
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for part in map(group.column, range(group.num_columns)):
            check_packed(
                f"{file}, column {part.path_in_schema}", part.total_uncompressed_size, part.total_compressed_size
            )


def image_column(file: Path, schema: Any) -> str:
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


def label_column(file: Path, schema: Any) -> str:
    types = need("pyarrow.types", "images")
    for name in LABEL:
        if name in schema.names and types.is_integer(schema.field(name).type):
            return name
    held = [f"{name} holds {schema.field(name).type}" for name in LABEL if name in schema.names]
    told = held[0] if held else choices("label", schema.names)
    raise HarpError(f"{file} has no whole-number column {', '.join(LABEL)}; {told}")


def checked_bytes(cell: Any, where: str) -> bytes:
    data = cell["bytes"] if isinstance(cell, dict) else cell
    if data is None:
        raise HarpError(f"{where} holds no image bytes; expected the encoded picture itself, not a path to it")
    return bytes(data)


def checked_label(cell: Any, where: str) -> int:
    if cell is None:
        raise HarpError(f"{where} has no label; expected a whole number")
    try:
        return whole_label(int(cell))
    except ValueError:
        raise HarpError(f"{where} has the label {cell}; expected a whole number of 64 bits") from None

"""JSON from files that are not trusted: exact types, no key twice, no numbers JSON has not, bounded nesting."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from harp.errors import HarpError, choices

DEEPEST = 32  # levels of arrays and objects; graphs need eight
NONE: Mapping[str, type] = {}


def loads(data: bytes | bytearray, what: str) -> Any:
    """The JSON value in UTF-8 `data`; raises `HarpError` where it is not strict JSON of at most 32 levels."""
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite)
        if "\\u" in text:
            dumps(value)  # half a surrogate pair can be escaped, but not written
    except RecursionError:
        raise HarpError(f"{what} is nested too deep") from None
    except ValueError as error:
        raise HarpError(f"{what} is not strict JSON: {short(error)}") from None
    if deeper(value, DEEPEST):
        raise HarpError(f"{what} is nested too deep; at most {DEEPEST} levels are allowed")
    return value


def dumps(value: Any) -> bytes:
    """`value` as the shortest JSON in UTF-8, keys in their order; `ValueError` where JSON cannot hold it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def deeper(value: Any, levels: int) -> bool:
    """Whether `value` has more than so many levels of lists and dictionaries."""
    if not isinstance(value, list | tuple | dict):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(deeper(part, levels - 1) for part in parts)


def record(
    value: Any, what: str, needed: Mapping[str, type], other: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """`value` as an object of exactly these keys and kinds, those of `other` optional; else `HarpError`."""
    kinds = {**needed, **(other or {})}
    if type(value) is not dict:
        raise HarpError(f"{what}: expected an object, found {short(value)}")
    for key in needed:
        if key not in value:
            raise HarpError(f"{what}: {key!r} is missing")
    for key, part in value.items():
        if key not in kinds:
            raise HarpError(f"{what}: unknown key {short(key)}; {choices(key[:80], kinds)}")
        if type(part) is not kinds[key]:
            raise HarpError(f"{what}: expected {key} to be of kind {kinds[key].__name__}, found {short(part)}")
    return value


def whole(values: Iterable[Any], what: str, low: int, high: int) -> tuple[int, ...]:
    """`values` as integers from `low` to `high`; else `HarpError`."""
    found = tuple(values)
    for value in found:
        if type(value) is not int or not low <= value <= high:
            raise HarpError(f"{what}: expected integers from {low} to {high:,}, found {short(value)}")
    return found


def short(value: object) -> str:
    """`value` in a message: of an unknown file, it may be long or unprintable."""
    text = str(value) if isinstance(value, Exception) else ascii(value) if _small(value) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def _small(value: object) -> bool:
    return not isinstance(value, dict | list) or len(value) < 10


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is beyond a double")
    return number

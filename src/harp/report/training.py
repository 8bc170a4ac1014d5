"""The lines of a stage's metrics, checked for what the charts are drawn from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harp.runs import DamagedError, Metrics, checked
from harp.written import Line


def read_metrics(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The records in the file, in order; raises `DamagedError` where one is no `Line`, or tells of other layers."""
    records = tuple(Metrics(path))
    first: dict[str, Any] = {}
    for number, record in enumerate(records, 1):
        checked(path, record, Line)
        for key, names in _told(record.get("pruner") or {}):
            if first.setdefault(key, names) != names:
                raise DamagedError(path, f"{path}: {key} in line {number} does not tell of the same as before")
    return records


def _told(pruner: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a record must tell alike in every line: which numbers there are, of which layers."""
    if pruner.get("density") is not None:
        yield "density", [key for key in ("penalty", "gamma") if pruner.get(key) is not None]
    if (rates := pruner.get("rates")) is not None:
        yield "rates", sorted(rates)
    if (forces := pruner.get("rate_gradients")) is not None:
        for force in ("robust", "size", "decay"):
            yield "rate_gradients", sorted(forces[force])

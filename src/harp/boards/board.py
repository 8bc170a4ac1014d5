"""What a board is told of the stage that it shows, and what it has to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class About:
    """One stage of a run: where its files lie, whose it is, and what a board has of it already.

    `key` is what the board called this stage before, None where it knows nothing of it; `step` is the last it was told.
    """

    folder: Path
    run: str
    stage: str
    settings: Mapping[str, Any]
    key: str | None = None
    step: int = 0


class Board(Protocol):
    """Shows numbers by step. `key` finds the same place again when a killed stage goes on."""

    key: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """`values` are shown at `step`, which is above all steps before."""

    def close(self, ended: bool) -> None:
        """Nothing more comes from this process; `ended` says whether the stage came to its end."""


def numbers(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a record of metrics by their path in it, such as validation/robust; what is none is left out."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{above}{name}/")
        elif isinstance(value, int | float):
            yield f"{above}{name}", float(value)

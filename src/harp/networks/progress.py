"""How far an evaluation on record has come: its finished batches, and the seconds they took."""

import re
import time
from pathlib import Path

from harp.runs import read_json, write_json


class Took:
    """The seconds that an evaluation has taken in all, kept in its folder, so that they outlive a kill."""

    def __init__(self, folder: Path | None):
        self._path = folder / "took.json" if folder else None
        self.seconds = float(read_json(self._path, float)) if self._path and self._path.exists() else 0.0
        self._last = time.monotonic()

    def save(self) -> None:
        """What passed since the last time belongs to the evaluation."""
        now = time.monotonic()
        self.seconds, self._last = self.seconds + now - self._last, now
        if self._path:
            write_json(self._path, round(self.seconds, 3))


def recorded(folder: Path | None, measure: str) -> int:
    """How many batches of the measure the folder has."""
    names = (path.name for path in folder.iterdir()) if folder and folder.is_dir() else ()
    return sum(re.fullmatch(rf"{re.escape(measure)}-\d{{5,}}\.safetensors", name) is not None for name in names)

"""The user's own sources of a run's network: recorded as stages begin, never mixed with edited ones unnoticed."""

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harp import models
from harp.errors import HarpError, choices
from harp.runs import read_json, write_json
from harp.sources import edited, source_digests

SOURCES = "sources.json"
MADE = ("done.json", "checkpoint.safetensors")


class _Record(BaseModel, strict=True):
    """What sources.json holds: digests as the last stage to begin found them, and the names edited since the first."""

    files: dict[str, str] = {}
    edited: list[str] = []


def own_sources(name: str) -> dict[str, str] | None:
    """Digests of the files that the network `name` is made of, by path from its folder; None where none is a user's."""
    file = models.own_file(name)
    return source_digests([file], file.parent) if file else None


def check_sources(run: Path, name: str, way_out: str, acknowledged: Collection[str] = ()) -> list[str]:
    """The files of the network `name` that were edited since the folder `run` recorded them, all `acknowledged`.

    Raises `HarpError` for an edit that is not, with the `way_out`, and for an acknowledged file that is no source of
    the network.
    """
    file, recorded = models.own_file(name), _read(run).files
    known = recorded or own_sources(name) or {}
    if strange := sorted(set(acknowledged) - set(known)):
        raise HarpError(f"--edited {strange[0]}: {name} is not made of it; {choices(strange[0], known)}")
    changed = edited(recorded, file.parent) if file else []
    if unsaid := [source for source in changed if source not in acknowledged]:
        raise HarpError(f"{unsaid[0]} was edited since {run} used it, and two networks would be mixed; {way_out}")
    return changed


class Sources:
    """The sources of the network `name` in a run: checked and recorded as a stage begins, `edited` files excused."""

    def __init__(self, run: Path, name: str, edited: Collection[str] = ()):
        self.run, self.name, self.edited = run, name, edited
        self._begun: dict[str, str] | None = None

    def digests(self) -> dict[str, str] | None:
        """By file; those that the stage under way began with. None where no file is a user's."""
        return own_sources(self.name) if self._begun is None else self._begun

    def check(self) -> list[str]:
        """The files edited since the run began, all of them excused; raises `HarpError` for any other."""
        # Of what made neither a stage nor a checkpoint there is nothing to be mixed with.
        if not self.edited and not any(any(self.run.glob(f"*/{file}")) for file in MADE):
            return []
        way_out = "put it back, choose another --folder, or go on with --edited and its name"
        return check_sources(self.run, self.name, way_out, self.edited)

    def record(self) -> None:
        """`sources.json` holds the digests of now and the names of all that was edited since the run began."""
        changed = self.check()
        self._begun = own_sources(self.name)
        if self._begun is not None:
            names = sorted({*_read(self.run).edited, *changed})
            write_json(self.run / SOURCES, {"files": self._begun, "edited": names})

    def notes(self) -> list[str]:
        """What a stage's record says of edits since the run began."""
        names = _read(self.run).edited
        return [f"{name} was edited after this run began; --edited said that it may go on" for name in names]


def _read(run: Path) -> _Record:
    path = run / SOURCES
    if not path.exists():
        return _Record()
    try:
        return _Record.model_validate(read_json(path))
    except ValidationError:
        raise HarpError(f"{path} is no record of sources; expected digests by file and a list of edits") from None

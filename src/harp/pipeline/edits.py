"""The user's own sources of a run's network: recorded as stages begin, never mixed with edited ones unnoticed."""

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harp import models
from harp.errors import HarpError, choices
from harp.runs import read_json, write_json
from harp.sources import edited, source_digests

SOURCES = "sources.json"


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


def record_sources(run: Path, sources: Mapping[str, str], changed: Collection[str]) -> None:
    """`run`/sources.json holds `sources` and the names of all that was edited since the run began."""
    names = sorted({*_read(run).edited, *changed})
    write_json(run / SOURCES, {"files": dict(sources), "edited": names})


def edit_notes(run: Path) -> list[str]:
    """What a stage's record says of edits since the run began."""
    return [f"{name} was edited after this run began; --edited said that it may go on" for name in _read(run).edited]


def _read(run: Path) -> _Record:
    path = run / SOURCES
    if not path.exists():
        return _Record()
    try:
        return _Record.model_validate(read_json(path))
    except ValidationError:
        raise HarpError(f"{path} is no record of sources; expected digests by file and a list of edits") from None

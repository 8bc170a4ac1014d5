"""The user's own sources of a run's network: recorded as stages begin, never mixed with edited ones unnoticed."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harp import models
from harp.config import PruneSettings, Recipe, plan, settings_of
from harp.errors import HarpError, choices
from harp.own import is_file, is_own
from harp.runs import read_json, write_json
from harp.sources import edited, source_digests

SOURCES = "sources.json"
MADE = ("done.json", "checkpoint.safetensors")


class _Record(BaseModel, strict=True):
    """What sources.json holds: digests as the last stage to begin found them, and the names edited since the first."""

    files: dict[str, str] = {}
    edited: list[str] = []


def own_names(recipe: Recipe) -> tuple[str, ...]:
    """What the recipe names that a user may have written himself, the network first."""
    stages = [settings_of(recipe, stage) for stage in plan(recipe.stages)]
    methods = [stage.method for stage in stages if isinstance(stage, PruneSettings)]
    others = (recipe.data.name, *methods, *(stage.objective for stage in stages))
    measured = (*recipe.evaluation.attacks, *recipe.evaluation.corruptions)
    named = [name for name in (*others, *measured, *recipe.plugins) if is_own(name) or is_file(name)]
    return (recipe.model.name, *named)


def own_sources(*names: str) -> dict[str, str] | None:
    """Digests of the files that what is named is made of, by path from the first one's folder; None of no file."""
    files = _files(names)
    return source_digests(files, files[0].parent) if files else None


def _files(names: Sequence[str]) -> list[Path]:
    found = [Path(name).expanduser().resolve() if is_file(name) else models.own_file(name) for name in names]
    return [file for file in found if file is not None and file.is_file()]


def check_sources(run: Path, names: Sequence[str], way_out: str, acknowledged: Collection[str] = ()) -> list[str]:
    """The files behind `names` that were edited since the folder `run` recorded them, all `acknowledged`.

    Raises `HarpError` for an edit that is not, with the `way_out`, and for an acknowledged file that is no source.
    """
    files, recorded = _files(names), _read(run).files
    now = own_sources(*names) or {}
    known = recorded or now
    if strange := sorted(set(acknowledged) - set(known)):
        raise HarpError(f"--edited {strange[0]}: {names[0]} is not made of it; {choices(strange[0], known)}")
    changed = edited(recorded, files[0].parent) if files else []
    if unsaid := [source for source in changed if source not in acknowledged]:
        raise HarpError(f"{unsaid[0]} was edited since {run} used it, and two networks would be mixed; {way_out}")
    return changed


class Sources:
    """A user's own sources in a run, of what `names` name: checked and recorded as a stage begins, `edited` excused."""

    def __init__(self, run: Path, names: Sequence[str], edited: Collection[str] = ()):
        self.run, self.names, self.edited = run, names, edited
        self._begun: dict[str, str] | None = None

    def digests(self) -> dict[str, str] | None:
        """By file; those that the stage under way began with. None where no file is a user's."""
        return own_sources(*self.names) if self._begun is None else self._begun

    def check(self) -> list[str]:
        """The files edited since the run began, all of them excused; raises `HarpError` for any other."""
        # Of what made neither a stage nor a checkpoint there is nothing to be mixed with.
        if not self.edited and not any(any(self.run.glob(f"*/{file}")) for file in MADE):
            return []
        way_out = "put it back, choose another --folder, or go on with --edited and its name"
        return check_sources(self.run, self.names, way_out, self.edited)

    def record(self) -> None:
        """`sources.json` holds the digests of now and the names of all that was edited since the run began."""
        changed = self.check()
        self._begun = own_sources(*self.names)
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

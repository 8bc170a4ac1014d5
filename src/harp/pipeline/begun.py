"""What a stage was begun with: its recipe, the files from elsewhere, and where it ran each time it went on."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from harp.runs import Run, checked, file_digest, read_json, write_json

if TYPE_CHECKING:
    from harp.pipeline.workspace import Workspace

BEGUN = "begun.json"
ROUNDING = ("harp", "torch", "cpu", "cpu_capability", "threads", "device", "gpu", "ranks")
"""What of an environment may change the last bits of a sum, and with them all that follows."""


class Begun(BaseModel):
    """What begun.json holds: the recipe in full, SHA-256 of files by path, environments in turn."""

    recipe: dict[str, Any]
    files: dict[str, str] = {}
    environments: list[dict[str, Any]] = []

    def told(self) -> dict[str, Any]:
        """What of it a done-marker repeats."""
        return {"recipe": self.recipe, "files": self.files}


def begin_stage(work: "Workspace", stage: str, files: Iterable[Path] = (), resumed: bool = False) -> Begun:
    """What the folder's begun.json now holds, the same on all ranks: where it is `resumed`, the rest of it stays."""

    def begin() -> Begun:
        path = work.run.at(stage) / BEGUN
        before: Begun | None = checked(path, read_json(path), Begun) if resumed and path.exists() else None
        now = _rounding(work.environment())
        found = Begun(
            recipe=work.recipe.model_dump(mode="json"),
            files=before.files if before else {str(file): file_digest(file) for file in files if file.is_file()},
            environments=before.environments if before else [],
        )
        if now not in found.environments:
            found.environments.append(now)
        write_json(path, found.model_dump())
        return found

    return work.ranks.told(begin)


def begun_with(run: Run, stage: str) -> Begun | None:
    """What the stage was begun with, as far as it is on record: earlier versions recorded nothing."""
    done, path = run.done(stage), run.at(stage) / BEGUN
    if done is not None:
        return Begun.model_validate(done) if done.get("recipe") is not None else None
    found: Begun | None = checked(path, read_json(path), Begun) if path.exists() else None
    return found


def moved(run: Run, begun: Begun) -> list[str]:
    """A note for each environment of the stage in which sums may round otherwise than where the run began."""
    path = run.folder / "environment.json"
    return list(_moved(read_json(path, dict[str, Any]), begun)) if path.exists() else []


def _moved(first: Mapping[str, Any], begun: Begun) -> Iterator[str]:
    known = _rounding(first)
    for now in begun.environments:
        other = [name for name in known if name in now and known[name] != now[name]]
        if other:
            here, there = (", ".join(f"{name} {of[name]}" for name in other) for of in (now, known))
            yield f"it ran under {here}, and the run began under {there}: sums may round otherwise there"


def _rounding(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: environment[name] for name in ROUNDING if name in environment} | {
        "ranks": environment.get("ranks", 1)
    }

"""The recipe that lies in a run's folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harp.config import (
    EVALUATION,
    EXPORT,
    NETWORKS,
    Recipe,
    different,
    lasting,
    make_recipe,
    plan,
    read_recipe,
    settings_of,
)
from harp.errors import HarpError
from harp.pipeline.begun import Begun, begun_with
from harp.pruners import METHODS
from harp.runs import DONE, DamagedError, Run, file_digest


def settings_in(path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The settings in a run's recipe, or those of these `names` in it; `DamagedError` where they are none.

    Raises `HarpError` where a stage beside it says that it was made with others: somebody edited one of them.
    """
    try:
        values = read_recipe(path)
    except HarpError as error:
        raise DamagedError(path, str(error)) from None
    now = _valid(path, values if names is None else {name: values[name] for name in names if name in values})
    recipe, run = make_recipe(now), Run(path.parent)
    for stage, _, kept in _stages(run, recipe):
        for name, before, here in _differing(kept, recipe):
            if (names is None or name in names) and stage in _made_with(name, kept, recipe):
                raise HarpError(
                    f"{path} was edited: {run.at(stage)} was made with {before} as {name}, and it says {here}; put it "
                    "back, or begin another folder"
                )
    return now


def _valid(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The settings `values`, which stood in `path`, as they are called now."""
    try:
        now = _upgraded(values)
        make_recipe(now)
    except HarpError as error:
        raise DamagedError(path, f"{path} is no recipe of this version: {' '.join(str(error).split())}") from None
    return now


def check_kept(run: Run, recipe: Recipe) -> None:
    """Raises `HarpError` where the folder, or a stage in it, was begun with another recipe or other files.

    A setting may still change as long as no stage that depends on it has begun. What a stage says of itself counts
    beside the folder's recipe, which somebody may have deleted.
    """
    path = run.folder / "recipe.yaml"
    if path.exists():
        kept = make_recipe(settings_in(path))
        for name, before, now in _differing(kept, recipe):
            if any(run.at(stage).exists() for stage in _made_with(name, kept, recipe)):
                raise HarpError(_other(run.folder, name, before, now))
    for stage, begun, kept in _stages(run, recipe):
        for name, before, now in _differing(kept, recipe):
            if stage in _made_with(name, kept, recipe):
                raise HarpError(_other(run.at(stage), name, before, now))
        for file, digest in begun.files.items():
            if Path(file).is_file() and file_digest(Path(file)) != digest:
                raise HarpError(
                    f"{file} is not the file that {run.at(stage)} was begun with; bring it back, or choose another "
                    "--folder"
                )


def made_alike(run: Run, recipe: Recipe) -> list[str]:
    """The folders of the training stages that ended in `run` as `recipe` would make them, in order; its name aside."""
    training = [stage.folder for stage in plan(recipe.stages)]
    found = []
    for stage, begun, kept in _stages(run, recipe):
        if stage not in training or run.done(stage) is None:
            continue
        if any(name != "name" and stage in _made_with(name, kept, recipe) for name, _, _ in _differing(kept, recipe)):
            break
        if any(not Path(file).is_file() or file_digest(Path(file)) != digest for file, digest in begun.files.items()):
            break
        found.append(stage)
    return found


def _stages(run: Run, recipe: Recipe) -> Iterator[tuple[str, Begun, Recipe]]:
    """The folders of the stages of `recipe` that say what they were begun with, and the recipe among that."""
    for stage in (*(stage.folder for stage in plan(recipe.stages)), EVALUATION, EXPORT):
        begun = begun_with(run, stage)
        if begun is not None:
            yield stage, begun, make_recipe(_valid(run.at(stage) / DONE, begun.recipe))


def _differing(kept: Recipe, recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Each setting or section of a run in which the two differ, with what it is in both."""
    before, now = different(lasting(kept)), different(lasting(recipe))
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield name, before.get(name, "default"), now.get(name, "default")


def _other(place: Path, name: str, before: Any, now: Any) -> str:
    return f"{place} was begun with another setting of {name}: {before} there, {now} asked for; choose another --folder"


def _made_with(name: str, kept: Recipe, recipe: Recipe) -> list[str]:
    """The folders of the stages that depend on the section `name`, in which the two recipes differ."""
    if name in (EVALUATION, EXPORT):  # nothing is made from these but the report
        return [name]
    turns = [[(stage.folder, settings_of(one, stage)) for stage in plan(one.stages)] for one in (kept, recipe)]
    first = 0
    if name == "stages" or name in NETWORKS:
        alike = (before == now for before, now in zip(*turns, strict=False))
        first = next((place for place, same in enumerate(alike) if not same), min(map(len, turns)))
        if turns[0] == turns[1]:
            return []
    return [*dict.fromkeys(folder for turn in turns for folder, _ in turn[first:]), EVALUATION, EXPORT]


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are called now: options of methods once stood among the settings of the prune stage.

    All of them were written down, whatever the method; those it has are taken over where they were changed.
    """
    prune = values.get("prune")
    if not isinstance(prune, dict) or "options" in prune or prune.get("method", "harp") not in _THEN:
        return values
    once = {name for method in _THEN for name in METHODS[method].takes.model_fields}
    fields = METHODS[prune.get("method", "harp")].takes.model_fields
    moved = {name: prune[name] for name in once & prune.keys() & fields.keys() if prune[name] != fields[name].default}
    rest = {name: value for name, value in prune.items() if name not in once}
    return {**values, "prune": {**rest, "options": moved}}


_THEN = ("harp", "rates-only", "scores-only", "hydra")

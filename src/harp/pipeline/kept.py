"""The recipe that lies in a run's folder."""

from collections.abc import Sequence
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
from harp.pruners import METHODS
from harp.runs import DamagedError, Run


def settings_in(path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The settings in a run's recipe, or those of these `names` in it; `DamagedError` where they are none."""
    try:
        values = read_recipe(path)
        kept = values if names is None else {name: values[name] for name in names if name in values}
        kept = _upgraded(kept)
        make_recipe(kept)
    except HarpError as error:
        said = " ".join(str(error).split())
        raise DamagedError(
            path, said if str(path) in said else f"{path} is no recipe of this version: {said}"
        ) from None
    return kept


def check_kept(run: Run, recipe: Recipe) -> None:
    """Raises `HarpError` where the folder was begun with another recipe.

    A setting may still change as long as no stage that depends on it has begun.
    """
    path = run.folder / "recipe.yaml"
    if not path.exists():
        return
    kept = make_recipe(settings_in(path))
    before, now = different(lasting(kept)), different(lasting(recipe))
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name):
            continue
        if any(run.at(folder).exists() for folder in _made_with(name, kept, recipe)):
            raise HarpError(
                f"{run.folder} was begun with another setting of {name}: {before.get(name, 'default')} there, "
                f"{now.get(name, 'default')} asked for; choose another --folder"
            )


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

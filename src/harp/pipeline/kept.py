"""The recipe that lies in a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harp.config import make_recipe, read_recipe
from harp.errors import HarpError
from harp.pruners import METHODS
from harp.runs import DamagedError


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

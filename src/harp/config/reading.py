"""Recipes as YAML files: found, read, checked and written; and what tells two of them apart."""

import hashlib
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harp.config.documents import read_yaml
from harp.config.settings import Recipe
from harp.config.training import PruneSettings, Settings
from harp.errors import HarpError, choices

RECIPES = Path(__file__).parents[1] / "recipes"
SHOWN, WIDEST = 20, 300  # mistakes told at once, and characters of one


def different(recipe: Recipe) -> dict[str, Any]:
    """The settings of `recipe` that differ from the defaults and can change what a run comes to, as JSON values."""
    return recipe.model_dump(mode="json", exclude_defaults=True, exclude={"boards"})


def identity(recipe: Recipe) -> str:
    """Eight hex digits over the settings that differ from the defaults: the same run, the same digits."""
    return hashlib.sha256(json.dumps(different(recipe), sort_keys=True).encode()).hexdigest()[:8]


def measured(recipe: Recipe) -> Recipe:
    """`recipe` with all at its default that cannot change a verdict on one given network.

    What is left names images, network, threat, attacks and seed; how many threads there are, what is looked into
    afterwards and what is exported is nothing to a record.
    """
    usual = Recipe()
    parts = {
        section: getattr(usual, section).model_copy(
            update={name: getattr(getattr(recipe, section), name) for name in names}
        )
        for section, names in _VERDICTS.items()
    }
    return usual.model_copy(update={"seed": recipe.seed, "threat": recipe.threat, **parts})


_VERDICTS = {
    "data": ("name", "path", "size", "centre"),
    "model": ("name", "width", "mean", "std", "output"),
    "precision": ("channels_last",),
    "evaluation": ("attacks", "engine", "bf16", "steps", "restarts", "step", "eot", "batch_size", "images"),
}


def lasting(recipe: Recipe) -> Recipe:
    """`recipe` with all at its default that may be asked anew of a finished evaluation: it decides no verdict."""
    usual = Recipe().evaluation
    asked = {name: getattr(usual, name) for name in AFTERWARDS}
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=asked)})


AFTERWARDS = ("networks", "curve", "curve_by", "doubts", "corruptions", "acknowledge")


def find_recipe(name: str) -> Path:
    """The YAML file that `name` means: a file of that path, or a recipe that comes with harp."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise HarpError(f"no recipe file {name}")
        return path
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise HarpError(f"no recipe {name!r}; {choices(name, (p.stem for p in RECIPES.glob('*.yaml')))}")
    return path


def is_recipe(name: str) -> bool:
    """Whether `name` is a YAML file, or that of a recipe that comes with harp."""
    return name.endswith((".yaml", ".yml")) or (RECIPES / f"{name}.yaml").is_file()


def read_recipe(path: Path) -> dict[str, Any]:
    """The nested mapping in a YAML recipe, not yet checked; raises `HarpError` where it is none."""
    try:
        values = read_yaml(path)
    except ValueError as error:
        raise HarpError(f"{path} is not a readable recipe: {error}") from None
    if not isinstance(values, dict):
        raise HarpError(f"{path} is not a recipe: expected settings such as `seed: 0`")
    return values


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """The recipe of nested `values`; raises `HarpError` with one line for each setting that is wrong."""
    return make_settings(Recipe, values)


Kind = TypeVar("Kind", bound=Settings)


def make_settings(kind: type[Kind], values: Mapping[str, Any], section: str = "") -> Kind:
    """Settings of `kind`; raises `HarpError` with one line for each that is wrong, named as part of `section`."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors()
        lines = [_sentence(dict(problem), kind, section) for problem in problems[:SHOWN]]
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise HarpError("\n".join([*lines, *more])) from None


def write_recipe(recipe: Recipe) -> bytes:
    """YAML with every setting spelled out; `make_recipe` of it gives an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False).encode()


def fitting(below: Mapping[str, Any], above: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings `below` without the options of their pruning method, where those `above` name another method."""
    prune, method = below.get("prune", {}), above.get("prune", {}).get("method")
    if method in (None, prune.get("method", PruneSettings.model_fields["method"].default)):
        return below
    return {**below, "prune": {name: value for name, value in prune.items() if name != "options"}}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `below` with those `above` over them, section by section."""
    both = {name: (below.get(name), value) for name, value in above.items()}
    inner = {n: merged(b, a) for n, (b, a) in both.items() if isinstance(a, Mapping) and isinstance(b, Mapping)}
    return {**below, **above, **inner}


def _sentence(problem: dict[str, Any], kind: type[BaseModel], section: str) -> str:
    where = [str(part) for part in problem["loc"]]
    name = ".".join([section, *where] if section else where)
    if problem["type"] == "extra_forbidden":
        known = _fields(where[:-1], kind)
        return f"no setting {name!r}; {choices(where[-1], known) if known else 'there is none here'}"
    message = _short(problem["msg"].removeprefix("Value error, "))
    told = "" if ", got " in message else f", got {_shown(problem['input'])}"
    return f"{name}: {message[0].lower()}{message[1:]}{told}"


def _shown(value: object) -> str:
    try:
        return _short(reprlib.repr(value))
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}..."


def _fields(path: list[str], model: type[BaseModel]) -> list[str]:
    for part in path:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        model = inner
    return list(model.model_fields)

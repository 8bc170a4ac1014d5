"""Recipes as YAML files: found, read, checked and written; and what tells two of them apart."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from harp.config.settings import Recipe
from harp.errors import HarpError, choices

RECIPES = Path(__file__).parents[1] / "recipes"


def different(recipe: Recipe) -> dict[str, Any]:
    """The settings of `recipe` that differ from the defaults, as JSON values."""
    return recipe.model_dump(mode="json", exclude_defaults=True)


def identity(recipe: Recipe) -> str:
    """Eight hex digits over the settings that differ from the defaults: the same run, the same digits."""
    return hashlib.sha256(json.dumps(different(recipe), sort_keys=True).encode()).hexdigest()[:8]


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


def read_recipe(path: Path) -> dict[str, Any]:
    """The nested mapping in a YAML recipe, not yet checked; raises `HarpError` where it is none."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HarpError(f"{path} is not a readable recipe: {error}") from None
    if not isinstance(values, dict):
        raise HarpError(f"{path} is not a recipe: expected settings such as `seed: 0`")
    return values


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """The recipe of nested `values`; raises `HarpError` with one line for each setting that is wrong."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise HarpError("\n".join(_sentence(dict(problem)) for problem in error.errors())) from None


def write_recipe(recipe: Recipe) -> bytes:
    """YAML with every setting spelled out; `make_recipe` of it gives an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False).encode()


def _sentence(problem: dict[str, Any]) -> str:
    where = [str(part) for part in problem["loc"]]
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        return f"no setting {name!r}; {choices(where[-1], _fields(where[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    told = "" if ", got " in message else f", got {problem['input']!r}"
    return f"{name}: {message[0].lower()}{message[1:]}{told}"


def _fields(path: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in path:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        model = inner
    return list(model.model_fields)

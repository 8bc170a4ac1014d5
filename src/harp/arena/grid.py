"""A grid: which methods, at which budgets, under which seeds, all else equal; and the recipe of every cell in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from harp.config import (
    Recipe,
    Settings,
    find_recipe,
    fitting,
    make_recipe,
    make_settings,
    merged,
    read_recipe,
)
from harp.config.values import Seed, Share, Text, Word
from harp.errors import HarpError, choices
from harp.pruners import METHODS, Course, options_of

OWN = ("prune", "finetune", "stages", "export")
"""The sections of a recipe that a row may have to itself; all else is what rows have in common."""
MEASURED = ("evaluation", "export")
"""The sections that the dense networks may have to themselves: how they are trained is every row's start."""


def _row(item: Any) -> Any:
    """One item of `rows`: a method's name, or a label with settings over the recipe's."""
    if isinstance(item, dict) and (len(item) != 1 or not isinstance(next(iter(item.values())), dict)):
        raise ValueError("expected a method's name, or a label with settings, as in `mine: {prune: {method: harp}}`")
    return item


def _measured(own: dict[str, Any]) -> dict[str, Any]:
    """The settings of `dense`, of how they are measured alone."""
    if strange := sorted(set(own) - set(MEASURED)):
        raise ValueError(f"settings of {strange[0]}, which all rows have in common; {choices(strange[0], MEASURED)}")
    return own


Row = Annotated[str | dict[str, Any], AfterValidator(_row)]


class Grid(Settings):
    """What an arena is of: rows (methods), budgets and seeds, and the recipe that all have in common."""

    name: Word = "arena"
    """a word for the arena; part of its folder's name"""
    recipe: Text = "digits"
    """the recipe that all cells have in common (`harp list recipes`, or a YAML file)"""
    settings: dict[Word, Any] = Field(default={})
    """settings over that recipe's, for every cell"""
    dense: Annotated[dict[Word, Any], AfterValidator(_measured)] = Field(default={})
    """how the dense networks are measured otherwise, as `{evaluation: {images: 200}}`: they take longest to attack"""
    rows: tuple[Row, ...]
    """methods by name, or rows with a label and settings of their own"""
    keeps: tuple[Share, ...] = (0.01,)
    """budgets: shares that stay"""
    seeds: tuple[Seed, ...] = (0,)
    """seeds; each has a dense network of its own, from which all methods start"""
    once: tuple[Share, ...] = ()
    """further budgets, under the first seed only, once all else has run"""
    epochs: Literal["equal", "own"] = "equal"
    """equal: what needs no pretraining or no search trains as long in all; own: as the settings say"""


@dataclass(frozen=True)
class Cell:
    """One run of the arena: a row at a budget under a seed, where it lies in the arena's folder, and its recipe."""

    row: str
    keep: float
    seed: int
    folder: str
    values: Mapping[str, Any]

    @property
    def recipe(self) -> Recipe:
        return make_recipe(self.values)


def read_grid(path: Path) -> Grid:
    """The grid in a YAML file; raises `HarpError` with one line for each setting that is wrong."""
    return make_settings(Grid, read_recipe(path))


def data_of(grid: Grid) -> str:
    """The name of the data set that all cells have in common."""
    return str(_common(grid).get("data", {}).get("name", Recipe().data.name))


def device_of(grid: Grid) -> str:
    """The device that all cells have in common."""
    return str(_common(grid).get("device", Recipe().device))


def dense_cell(grid: Grid, seed: int) -> Cell:
    """The run that trains the dense network of a seed, measures and packs it."""
    own = {"name": "dense", "seed": seed, "stages": ["pretrain"]}
    return Cell("dense", 1.0, seed, f"dense-seed{seed}", {**merged(_common(grid), grid.dense), **own})


def cells(grid: Grid, folder: Path) -> Iterator[Cell]:
    """Every cell, seed by seed, those of `once` last.

    Raises `HarpError` for what is there twice, and for settings that are not a row's. What a method itself refuses is
    the cell's affair, which fails alone.
    """
    rows = [row_of(item) for item in grid.rows]
    words = [word_of(name) for name, _ in rows]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise HarpError(f"rows: two are called {twice[0]}; give one a label, as in `{twice[0]} 2: {{prune: ...}}`")
    keeps = [f"{keep:g}" for keep in (*grid.keeps, *grid.once)]
    for name, values in (("keeps and once", keeps), ("seeds", list(map(str, grid.seeds)))):
        if len(set(values)) < len(values):
            raise HarpError(f"{name}: expected each once, got {', '.join(values)}")
    for seed, keep in (*product(grid.seeds, grid.keeps), *product(grid.seeds[:1], grid.once)):
        dense = folder / dense_cell(grid, seed).folder / "1-pretrain" / "model.safetensors"
        for name, own in rows:
            word = word_of(name)
            place = f"cells/{word}-{keep:g}-seed{seed}"
            yield Cell(name, keep, seed, place, {**values_of(grid, own, keep, dense), "name": word, "seed": seed})


def word_of(name: str) -> str:
    """A row's part in the names of its folders."""
    return "".join(letter if letter.isalnum() or letter in "+-." else "-" for letter in name)


def row_of(item: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A row's label and its own settings; raises `HarpError` for settings that are not a row's."""
    if isinstance(item, str):
        return item, {"prune": {"method": item}}
    name, own = next(iter(item.items()))
    if strange := sorted(set(own) - set(OWN)):
        raise HarpError(
            f"rows: {name} has settings of {strange[0]}, which all rows have in common; {choices(strange[0], OWN)}"
        )
    return name, own


def _common(grid: Grid) -> dict[str, Any]:
    """What all cells are set to; each measures the network it ends with, for the dense one has a cell of its own."""
    recipe = merged({"evaluation": {"networks": "last"}}, read_recipe(find_recipe(grid.recipe)))
    return merged(recipe, grid.settings)


def values_of(grid: Grid, own: Mapping[str, Any], keep: float, dense: Path) -> dict[str, Any]:
    """The recipe of a row with these settings of its own, from the dense network in that file."""
    common = _common(grid)
    values = merged(fitting(common, own), own)
    values = merged(values, {"prune": {"keep": keep, "source": str(dense)}})
    return _equal(values, own) if grid.epochs == "equal" else values


def _equal(values: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with as many epochs in all as a method has that is searched for from a dense network.

    What trains from scratch has those of pretraining, too; what cuts at once trains on for those of the search. A row
    that names its own epochs keeps them. The dense network is no start for what trains from scratch.
    """
    try:
        recipe = make_recipe(values)
        prune, tune = recipe.prune, recipe.finetune
        method, options = METHODS[prune.method], options_of(prune.method, prune.options)
    except HarpError:
        return values  # told when the cell runs
    if method.begins_with(options) == "untrained":
        longer = {"source": None, "epochs": recipe.pretrain.epochs + prune.epochs}
        return merged(values, {"prune": {**longer, **own.get("prune", {})}})
    if not method.steps(options, Course(1, prune.epochs)):
        return merged(values, {"finetune": {"epochs": tune.epochs + prune.epochs, **own.get("finetune", {})}})
    return values

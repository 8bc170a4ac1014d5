"""A search: which rows, at which budget, which settings may be what, and how many trials each row gets."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harp.arena.grid import Row
from harp.config import Settings, make_settings, read_recipe
from harp.config.values import Number, Seed, Share, Text, Word
from harp.tuning.space import Among

Trials = Annotated[int, Number, Field(ge=1, le=10_000)]
Rungs = Annotated[int, Number, Field(ge=1, le=20)]
Factor = Annotated[int, Number, Field(ge=2, le=100)]


class Tuning(Settings):
    """What a search is of: rows, one budget, which settings may be what, and how many trials each row gets."""

    name: Word = "tuning"
    """a word for the search; part of its folder's name"""
    recipe: Text = "digits"
    """the recipe that all rows have in common (`harp list recipes`, or a YAML file)"""
    settings: dict[Word, Any] = Field(default={})
    """settings over that recipe's, for every trial"""
    rows: tuple[Row, ...]
    """methods by name, or rows with a label and settings of their own, as in a grid of `harp arena`"""
    space: dict[Text, Among] = Field(min_length=1)
    """settings by their full names, each a list of values or a range {low: .., high: .., log: true}; options of a
    method are for the rows that have them"""
    keep: Share = 0.01
    """the budget: the share that stays"""
    seed: Seed = 0
    """seed of the runs, and of what is drawn"""
    epochs: Literal["equal", "own"] = "equal"
    """equal: what needs no pretraining or no search trains as long in all; own: as the settings say"""
    trials: Trials = 9
    """how many settings each row is tried with, the row as it stands first"""
    rungs: Rungs = 3
    """steps of a ladder: the last has the recipe's epochs, each before it one `factor`-th of the next one's"""
    factor: Factor = 3
    """one of so many goes on to the next rung"""
    sampler: Literal["random", "tpe"] = "random"
    """how settings are drawn: at random, or, `factor` at a time, where those before were good (Parzen estimators)"""


def read_tuning(path: Path) -> Tuning:
    """The search in a YAML file; raises `HarpError` with one line for each setting that is wrong."""
    return make_settings(Tuning, read_recipe(path))

"""Recipes: every number of a run in one frozen, typed tree, read from YAML."""

from harp.config.reading import RECIPES, different, find_recipe, identity, make_recipe, read_recipe, write_recipe
from harp.config.settings import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    PruneSettings,
    Recipe,
    TrainingSettings,
)

__all__ = [
    "RECIPES",
    "DataSettings",
    "EvaluationSettings",
    "ModelSettings",
    "PruneSettings",
    "Recipe",
    "TrainingSettings",
    "different",
    "find_recipe",
    "identity",
    "make_recipe",
    "read_recipe",
    "write_recipe",
]

"""Recipes: every number of a run in one frozen, typed tree, read from YAML."""

from harp.config.reading import (
    AFTERWARDS,
    RECIPES,
    different,
    find_recipe,
    identity,
    lasting,
    make_recipe,
    measured,
    read_recipe,
    write_recipe,
)
from harp.config.settings import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    PruneSettings,
    Recipe,
    TrainingSettings,
)

__all__ = [
    "AFTERWARDS",
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
    "lasting",
    "make_recipe",
    "measured",
    "read_recipe",
    "write_recipe",
]

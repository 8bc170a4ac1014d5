"""Recipes: every number of a run in one frozen, typed tree, read from YAML."""

from harp.config.reading import (
    AFTERWARDS,
    RECIPES,
    different,
    find_recipe,
    identity,
    is_recipe,
    lasting,
    make_recipe,
    make_settings,
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
    Settings,
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
    "Settings",
    "TrainingSettings",
    "different",
    "find_recipe",
    "identity",
    "is_recipe",
    "lasting",
    "make_recipe",
    "make_settings",
    "measured",
    "read_recipe",
    "write_recipe",
]

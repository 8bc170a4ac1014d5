"""The pruning method that a recipe names, with its options and its course."""

from harp.config import Recipe
from harp.pipeline.workspace import Workspace
from harp.pruners import METHODS, Course, Pruner, options_of
from harp.sparsity import Units


def make_method(work: Workspace, units: Units, steps_per_epoch: int) -> Pruner:
    """The recipe's method over `units`; raises `HarpError` for a budget or options that it cannot meet."""
    settings = work.recipe.prune
    options = options_of(settings.method, settings.options)
    return METHODS[settings.method](units, work.budget, options=options, course=_course(work.recipe, steps_per_epoch))


def steps_needed(recipe: Recipe, steps_per_epoch: int) -> int:
    """How many steps of the prune stage the method has a use for."""
    settings = recipe.prune
    options = options_of(settings.method, settings.options)
    return METHODS[settings.method].steps(options, _course(recipe, steps_per_epoch))


def begins_untrained(recipe: Recipe) -> bool:
    """Whether the method trains from scratch, so that there is no dense network to begin from."""
    settings = recipe.prune
    return METHODS[settings.method].begins_with(options_of(settings.method, settings.options)) == "untrained"


def _course(recipe: Recipe, steps_per_epoch: int) -> Course:
    return Course(steps_per_epoch, recipe.prune.epochs * steps_per_epoch, recipe.seed)

"""The pruning method that a recipe names, with its options and its course."""

from harp.config import PruneSettings
from harp.pipeline.workspace import Workspace
from harp.pruners import METHODS, Course, Pruner, make_pruner, options_of
from harp.sparsity import Units


def make_method(work: Workspace, settings: PruneSettings, units: Units, steps_per_epoch: int) -> Pruner:
    """The method of a prune stage over `units`; raises `HarpError` for a budget or options that it cannot meet."""
    options, course = (
        options_of(settings.method, settings.options),
        _course(settings, steps_per_epoch, work.recipe.seed, work.ranks.part),
    )
    made = make_pruner(settings.method, units, work.budget(settings, units), options, course)
    made.check_passes(settings.accumulate, work.recipe.precision.recompute)
    return made


def steps_needed(settings: PruneSettings, steps_per_epoch: int, seed: int) -> int:
    """How many steps of a prune stage the method has a use for."""
    options = options_of(settings.method, settings.options)
    return METHODS[settings.method].steps(options, _course(settings, steps_per_epoch, seed))


def _course(settings: PruneSettings, steps_per_epoch: int, seed: int, part: tuple[int, int] = (0, 1)) -> Course:
    return Course(steps_per_epoch, settings.epochs * steps_per_epoch, seed, part)

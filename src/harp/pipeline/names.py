"""The names in a recipe, each looked up before any work begins."""

from functools import partial

from harp.attacks import ATTACKS, VERSIONS
from harp.config import Planned, PruneSettings, Recipe, TrainingSettings, check_plan, plan, settings_of
from harp.errors import HarpError, choices
from harp.objectives import OBJECTIVES, has_teacher
from harp.own import is_gone, load_plugin
from harp.pruners import begins_untrained, options_of


def check_names(recipe: Recipe) -> None:
    """Raises `HarpError` for a name that nothing has, with the nearest that something has; plugins are loaded first."""
    for plugin in recipe.plugins:
        load_plugin(plugin)
    check_plan(recipe)
    for stage in plan(recipe.stages):
        settings = settings_of(recipe, stage)
        # What a stage that ended was made with may be gone: its network can be measured all the same.
        if not is_gone(settings.objective) and has_teacher(OBJECTIVES[settings.objective]):
            _check_teacher(recipe, stage)
        if isinstance(settings, PruneSettings) and not is_gone(settings.method):
            options_of(settings.method, settings.options)
        if settings.selection == "best" and not recipe.data.holdout:
            raise HarpError("selection: best needs held-out images; set data.holdout above 0 or selection to last")
    for name in recipe.evaluation.attacks:
        if name not in ATTACKS and name not in VERSIONS:
            raise HarpError(f"no attack {name!r}; {choices(name, [*ATTACKS, *VERSIONS])}")


def without_teacher(settings: TrainingSettings) -> str:
    """Why a stage of these settings cannot train."""
    return (
        f"{settings.objective} learns the answers of a teacher, and no dense network comes before this stage; name its "
        "weights, a safetensors file, as this stage's teacher"
    )


def _check_teacher(recipe: Recipe, stage: Planned) -> None:
    settings = settings_of(recipe, stage)
    before = plan(recipe.stages)[: stage.number - 1]
    dense = any(one.kind == "pretrain" for one in before) and not any(map(partial(_scratch, recipe), (*before, stage)))
    if settings.teacher is None and recipe.prune.source is None and not dense:
        raise HarpError(without_teacher(settings))


def _scratch(recipe: Recipe, stage: Planned) -> bool:
    """Whether the stage's method trains from scratch, so that no dense network is trained before it."""
    settings = settings_of(recipe, stage)
    if not isinstance(settings, PruneSettings) or is_gone(settings.method):
        return False
    return begins_untrained(settings.method, settings.options)

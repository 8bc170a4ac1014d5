"""The names in a recipe, each looked up before any work begins."""

from harp.attacks import ATTACKS, VERSIONS
from harp.config import PruneSettings, Recipe, check_plan, plan, settings_of
from harp.errors import HarpError, choices
from harp.objectives import OBJECTIVES
from harp.own import is_gone, load_plugin
from harp.pruners import options_of


def check_names(recipe: Recipe) -> None:
    """Raises `HarpError` for a name that nothing has, with the nearest that something has; plugins are loaded first."""
    for plugin in recipe.plugins:
        load_plugin(plugin)
    check_plan(recipe)
    for stage in plan(recipe.stages):
        settings = settings_of(recipe, stage)
        # What a stage that ended was made with may be gone: its network can be measured all the same.
        if not is_gone(settings.objective):
            OBJECTIVES[settings.objective]
        if isinstance(settings, PruneSettings) and not is_gone(settings.method):
            options_of(settings.method, settings.options)
        if settings.selection == "best" and not recipe.data.holdout:
            raise HarpError("selection: best needs held-out images; set data.holdout above 0 or selection to last")
    for name in recipe.evaluation.attacks:
        if name not in ATTACKS and name not in VERSIONS:
            raise HarpError(f"no attack {name!r}; {choices(name, [*ATTACKS, *VERSIONS])}")

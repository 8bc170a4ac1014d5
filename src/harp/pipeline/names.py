"""The names in a recipe, each looked up before any work begins."""

from harp.attacks import ATTACKS, VERSIONS
from harp.config import Recipe, TrainingSettings
from harp.errors import HarpError, choices
from harp.objectives import OBJECTIVES, has_teacher
from harp.own import is_gone, load_plugin
from harp.pruners import METHODS, options_of


def check_names(recipe: Recipe) -> None:
    """Raises `HarpError` for a name that nothing has, with the nearest that something has; plugins are loaded first."""
    for plugin in recipe.plugins:
        load_plugin(plugin)
    # What a stage that ended was made with may be gone: its network can be measured all the same.
    if not is_gone(recipe.prune.method):
        options_of(recipe.prune.method, recipe.prune.options)
    for settings in (recipe.pretrain, recipe.prune, recipe.finetune):
        if not is_gone(settings.objective) and has_teacher(OBJECTIVES[settings.objective]):
            _check_teacher(recipe, settings)
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


def _check_teacher(recipe: Recipe, settings: TrainingSettings) -> None:
    scratch = not is_gone(recipe.prune.method) and METHODS[recipe.prune.method].begins == "untrained"
    given = settings.teacher or recipe.prune.source
    if given is None and (scratch or settings is recipe.pretrain):
        raise HarpError(without_teacher(settings))

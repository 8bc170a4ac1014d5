"""What training cost, in forward passes of one image: a backward pass counts as two."""

from harp.config.plan import Planned, settings_of
from harp.config.settings import Recipe

STEP = 3  # a forward pass and its backward pass
# Beside the attack's steps and the optimizer's: clean passes of the loss, or of a teacher.
_BESIDE = {"natural": 0, "pgd-at": 0, "trades": 3, "mart": 3, "free-at": 0, "fast-at": 0, "pwoa": 1}
_BESIDE |= {"ard": 1, "rslad": 1, "adaad": 2, "gaussian": 0, "stability": 3, "consistency": 3}
# Steps of the attack, where they are not the stage's.
_ATTACKS = {"natural": 0, "free-at": 0, "fast-at": 1, "gaussian": 0, "stability": 0, "consistency": 0}
_ALPHA = {"ard": 1.0, "rslad": 5 / 6, "adaad": 1.0}  # below 1 the student sees clean images, too


def forwards(recipe: Recipe, stage: Planned, steps: int) -> float:
    """The cost of so many optimizer steps of a stage, by its objective, attack and AWP.

    What a method does beside these (a pass that scores weights, S2AP's second gradient) and validation are not in it.
    """
    settings = settings_of(recipe, stage)
    attack = {**recipe.attack.model_dump(), **settings.attack.model_dump(exclude_none=True)}
    made = _ATTACKS.get(settings.objective, attack["steps"])
    share = (settings.attacked or 0.0) if settings.objective == "pwoa" else 1.0
    if settings.objective == "adaad":
        share = 2.0  # through the teacher as well
    draws = (settings.draws or 2) if settings.objective == "smoothadv" else 1
    alpha = _ALPHA.get(settings.objective, 1.0) if settings.alpha is None else settings.alpha
    clean = STEP if settings.objective in _ALPHA and alpha < 1 else 0
    each = (
        STEP * draws * (made * share + 1) + _BESIDE.get(settings.objective, 0) + clean + (STEP if settings.awp else 0)
    )
    return float(steps * settings.batch_size * each)

"""The objective that a stage's settings name, made of what it takes of them."""

from collections.abc import Callable
from typing import Any

from torch import nn

from harp.attacks import PGD
from harp.clock import Step
from harp.config import TrainingSettings
from harp.objectives import OBJECTIVES, Accumulated, CutMix, Objective, has_teacher
from harp.registry import accepted
from harp.threats import Threat

# Settings that are handed on as they are, but for those that say nothing.
_OWN = (
    *("batch_norm", "alpha", "beta", "replays", "temperature", "hsic_x", "hsic_y", "attacked", "sigma", "draws"),
    "smoothing",
)


def make_objective(
    settings: TrainingSettings,
    attack: PGD,
    threat: Threat,
    *,
    per_epoch: int,
    classes: int,
    teacher: Callable[[], nn.Module],
) -> Objective:
    """What the stage of `settings` minimises; `teacher` is asked for one where the objective learns from a network."""
    factory = OBJECTIVES[settings.objective]
    guard = Step.parse(settings.guard_every).steps(per_epoch) * settings.accumulate  # it counts what it is called for
    chosen = {name: value for name in _OWN if (value := getattr(settings, name)) is not None}
    common: dict[str, Any] = {"attack": attack, "threat": threat, "guard_every": guard}
    if has_teacher(factory):
        common["teacher"] = teacher()
    made = factory(**accepted(factory, {**common, **chosen}))
    if settings.cutmix:
        made = CutMix(made, settings.cutmix, classes)
    return made if settings.accumulate == 1 else Accumulated(made, settings.accumulate)

"""Settings that were made and mean nothing to what was chosen: each becomes a note, none is ignored in silence."""

from collections.abc import Iterator

from harp.config import PruneSettings, TrainingSettings
from harp.objectives import OBJECTIVES
from harp.pruners import METHODS, Pruner
from harp.registry import accepted

METHOD_OPTIONS = ("gamma", "mode", "estimator", "start", "start_keep")
OBJECTIVE_OPTIONS = {"batch_norm", "beta", "replays", "guard_every"}


def unused_by_method(settings: PruneSettings, pruner: Pruner) -> Iterator[str]:
    """A note for each setting of methods that was made and that this one, or its mode, has no use for."""
    made, used = settings.model_fields_set, accepted(METHODS[settings.method], dict.fromkeys(METHOD_OPTIONS))
    for name in METHOD_OPTIONS:
        if name in made and name not in used:
            yield f"{settings.method} has no {name}: prune.{name} was not used"
    if settings.rate_weight_decay is not None and "rates" not in pruner.trainables():
        yield f"{settings.method} has no rate_weight_decay: prune.rate_weight_decay was not used"
    if settings.mode == "exact" and "mode" in used and "gamma" in made:
        yield "mode exact has no gamma: prune.gamma was not used"


def unused_by_objective(stage: str, settings: TrainingSettings) -> Iterator[str]:
    """A note for each setting of objectives that was changed and that this stage's has no use for."""
    factory, name = OBJECTIVES[settings.objective], settings.objective
    values = settings.model_dump(include=OBJECTIVE_OPTIONS, exclude_defaults=True)
    for option in sorted(set(values) - set(accepted(factory, values))):
        yield f"{name} has no {option}: {stage}.{option} was not used"
    if settings.awp_warmup and not settings.awp:
        yield f"{stage}.awp_warmup was not used: {stage}.awp is 0"

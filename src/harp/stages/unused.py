"""Settings that were made and mean nothing to what was chosen: each becomes a note, none is ignored in silence."""

from collections.abc import Iterator

from harp.config import PruneSettings, TrainingSettings
from harp.objectives import OBJECTIVES
from harp.pruners import options_of
from harp.registry import accepted

OBJECTIVE_OPTIONS = {
    *("alpha", "batch_norm", "beta", "replays", "guard_every"),
    *("teacher", "temperature", "hsic_x", "hsic_y", "attacked", "sigma", "draws", "smoothing"),
}


def unused_by_method(settings: PruneSettings) -> Iterator[str]:
    """A note for each option of the method that the others leave no use for."""
    for name, why in options_of(settings.method, settings.options).unused().items():
        yield f"prune.options.{name} was not used: {why}"


def unused_by_objective(stage: str, settings: TrainingSettings) -> Iterator[str]:
    """A note for each setting of objectives that was changed and that this stage's has no use for."""
    factory, name = OBJECTIVES[settings.objective], settings.objective
    values = settings.model_dump(include=OBJECTIVE_OPTIONS, exclude_defaults=True)
    for option in sorted(set(values) - set(accepted(factory, values))):
        yield f"{name} has no {option}: {stage}.{option} was not used"
    if settings.awp_warmup and not settings.awp:
        yield f"{stage}.awp_warmup was not used: {stage}.awp is 0"

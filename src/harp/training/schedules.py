"""Learning rates as pure functions of the step, so that a resumed run needs no schedule state."""

import math
from collections.abc import Callable

Schedule = Callable[[int, int, int], float]
"""(steps done, steps in all, steps per epoch) -> factor on the base learning rate, in [0, 1]."""


def cosine(step: int, total: int, per_epoch: int) -> float:
    """Half a cosine from 1 towards 0, moving every step."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def cosine_epochs(step: int, total: int, per_epoch: int) -> float:
    """HARP's published schedule: half a cosine that moves once an epoch and lags it by one (METHODS 1.4)."""
    epochs = max(1, total // per_epoch)
    lag = min(1, epochs - 1)  # a single epoch that lags by one would train at a rate of 0
    return 0.5 * (1 + math.cos(math.pi * (step // per_epoch - lag) / epochs))


def warm(step: int, total: int, per_epoch: int) -> float:
    """A linear rise over the first fifth of the steps, then a linear fall towards 0."""
    rise = max(1, total // 5)
    return (step + 1) / rise if step < rise else (total - step) / max(1, total - rise)


def constant(step: int, total: int, per_epoch: int) -> float:
    """Always 1."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine,
    "cosine-epochs": cosine_epochs,
    "warm": warm,
    "constant": constant,
}

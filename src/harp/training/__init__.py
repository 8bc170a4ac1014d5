"""The one training loop, what surrounds it, and what it can resume from."""

from harp.training.loop import attacked, fit, losses, steps_per_epoch
from harp.training.optimizers import OPTIMIZERS, adamw, sgd
from harp.training.precision import Precision
from harp.training.schedules import SCHEDULES, Schedule
from harp.training.tracker import Tracker, clear

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Precision",
    "Schedule",
    "Tracker",
    "adamw",
    "attacked",
    "clear",
    "fit",
    "losses",
    "sgd",
    "steps_per_epoch",
]

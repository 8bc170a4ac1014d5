"""The one training loop, what surrounds it, and what it can resume from."""

from harp.training.averaging import Average
from harp.training.loop import attacked, fit, losses, steps_per_epoch
from harp.training.norms import renew, renewed
from harp.training.optimizers import OPTIMIZERS, adamw, sgd
from harp.training.precision import Precision
from harp.training.schedules import SCHEDULES, Schedule
from harp.training.tracker import Tracker, clear

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Average",
    "Precision",
    "Schedule",
    "Tracker",
    "adamw",
    "attacked",
    "clear",
    "fit",
    "losses",
    "renew",
    "renewed",
    "sgd",
    "steps_per_epoch",
]

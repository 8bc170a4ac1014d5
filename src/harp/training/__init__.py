"""The one training loop, what surrounds it, and what it can resume from."""

from harp.training.loop import Moment, fit, steps_per_epoch
from harp.training.optimisers import sgd
from harp.training.precision import Precision
from harp.training.schedules import SCHEDULES, Schedule
from harp.training.stage import Stage, clear

__all__ = ["SCHEDULES", "Moment", "Precision", "Schedule", "Stage", "clear", "fit", "sgd", "steps_per_epoch"]

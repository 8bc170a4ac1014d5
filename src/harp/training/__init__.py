"""The one training loop, what surrounds it, and what it can resume from."""

from harp.training.loop import Moment, fit
from harp.training.optimisers import sgd
from harp.training.precision import Precision
from harp.training.schedules import SCHEDULES, Schedule
from harp.training.stage import Stage

__all__ = ["SCHEDULES", "Moment", "Precision", "Schedule", "Stage", "fit", "sgd"]

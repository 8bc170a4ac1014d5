"""Recipes tuned at small cost: every row of a grid in as many trials, judged by held-out images alone."""

from harp.tuning.schema import Tuned
from harp.tuning.settings import Tuning, read_tuning
from harp.tuning.tune import tune

__all__ = ["Tuned", "Tuning", "read_tuning", "tune"]

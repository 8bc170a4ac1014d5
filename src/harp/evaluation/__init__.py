"""How often a model is right, with and without an attacker, and how sure that is."""

from harp.evaluation.evaluate import Flags, correct, evaluate, summary
from harp.evaluation.statistics import wilson

__all__ = ["Flags", "correct", "evaluate", "summary", "wilson"]

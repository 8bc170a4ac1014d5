"""What training minimises: generators of closures, one closure per optimiser step; and where the weights stand then."""

from harp.objectives.adversarial import PGDAT, Natural
from harp.objectives.base import OBJECTIVES, Closure, Objective
from harp.objectives.fast import FastAT
from harp.objectives.free import FreeAT
from harp.objectives.regularised import MART, TRADES
from harp.objectives.sharpness import AWP, LEVEL, Ascent

__all__ = [
    "AWP",
    "LEVEL",
    "MART",
    "OBJECTIVES",
    "PGDAT",
    "TRADES",
    "Ascent",
    "Closure",
    "FastAT",
    "FreeAT",
    "Natural",
    "Objective",
]

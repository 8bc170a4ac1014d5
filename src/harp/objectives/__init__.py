"""What training minimises: generators of closures, one closure per optimizer step; and where the weights stand then."""

from harp.objectives.accumulation import Accumulated
from harp.objectives.adversarial import PGDAT, Natural
from harp.objectives.base import OBJECTIVES, Closure, Objective, has_teacher, is_attacked
from harp.objectives.cutmix import CutMix
from harp.objectives.distillation import Distillation
from harp.objectives.fast import FastAT
from harp.objectives.free import FreeAT
from harp.objectives.noisy import Consistency, Gaussian, SmoothAdv, Stability
from harp.objectives.regularised import MART, TRADES
from harp.objectives.sharpness import AWP, LEVEL, Ascent
from harp.objectives.students import ARD, RSLAD, AdaAD

__all__ = [
    "ARD",
    "AWP",
    "LEVEL",
    "MART",
    "OBJECTIVES",
    "PGDAT",
    "RSLAD",
    "TRADES",
    "Accumulated",
    "AdaAD",
    "Ascent",
    "Closure",
    "Consistency",
    "CutMix",
    "Distillation",
    "FastAT",
    "FreeAT",
    "Gaussian",
    "Natural",
    "Objective",
    "SmoothAdv",
    "Stability",
    "has_teacher",
    "is_attacked",
]

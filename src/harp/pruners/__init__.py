"""The pruning methods, each one file, all working by pull and push."""

from harp.pruners.anp_vs import AnpVs, AnpVsOptions
from harp.pruners.base import METHODS, Method, Pruner, SearchWarning, options_of
from harp.pruners.flyingbird import FlyingBird, FlyingBirdOptions
from harp.pruners.flyingbird_plus import FlyingBirdPlus, FlyingBirdPlusOptions
from harp.pruners.harp import Harp, HarpOptions, RatesOnly
from harp.pruners.hydra import Hydra
from harp.pruners.l1_filters import L1Filters
from harp.pruners.magnitude import Magnitude, MagnitudeOptions
from harp.pruners.masked import Masked
from harp.pruners.method import Course, Moment, Options, Role, Scoring
from harp.pruners.moving import MovingMasks
from harp.pruners.reparam import Reparam
from harp.pruners.scores import ScoresOnly, ScoresOptions
from harp.pruners.straight_through import TopShare
from harp.pruners.twinrep import TwinRep, TwinRepOptions

__all__ = [
    "METHODS",
    "AnpVs",
    "AnpVsOptions",
    "Course",
    "FlyingBird",
    "FlyingBirdOptions",
    "FlyingBirdPlus",
    "FlyingBirdPlusOptions",
    "Harp",
    "HarpOptions",
    "Hydra",
    "L1Filters",
    "Magnitude",
    "MagnitudeOptions",
    "Masked",
    "Method",
    "Moment",
    "MovingMasks",
    "Options",
    "Pruner",
    "RatesOnly",
    "Reparam",
    "Role",
    "ScoresOnly",
    "ScoresOptions",
    "Scoring",
    "SearchWarning",
    "TopShare",
    "TwinRep",
    "TwinRepOptions",
    "options_of",
]

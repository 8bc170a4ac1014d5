"""The pruning methods, each one file, all working by pull and push."""

from harp.pruners.acdc import ACDC, ACDCOptions
from harp.pruners.anp_vs import AnpVs, AnpVsOptions
from harp.pruners.base import METHODS, Method, Pruner, SearchWarning, begins_untrained, make_pruner, options_of
from harp.pruners.bcs_p import BCSP, BCSPOptions
from harp.pruners.chord import Chord, ChordOptions
from harp.pruners.cyclic import Cyclic, CyclicOptions
from harp.pruners.dnr import DNR, DNROptions
from harp.pruners.feather import Feather, FeatherOptions
from harp.pruners.flyingbird import FlyingBird, FlyingBirdOptions
from harp.pruners.flyingbird_plus import FlyingBirdPlus, FlyingBirdPlusOptions
from harp.pruners.harp import Harp, HarpOptions, RatesOnly
from harp.pruners.hydra import Hydra
from harp.pruners.l1_filters import L1Filters
from harp.pruners.li20 import Li20, Li20Options
from harp.pruners.mad import MAD, MADOptions
from harp.pruners.magnitude import Magnitude, MagnitudeOptions
from harp.pruners.masked import Masked
from harp.pruners.method import Course, Moment, Options, Role, Scoring
from harp.pruners.moving import MovingMasks
from harp.pruners.pwoa import PwoA, PwoAOptions
from harp.pruners.radmm import RADMM, RADMMOptions
from harp.pruners.reparam import Reparam
from harp.pruners.robustbird import RobustBird, RobustBirdOptions
from harp.pruners.rst import RST
from harp.pruners.s2ap import S2AP, S2APOptions
from harp.pruners.scores import ScoresOnly, ScoresOptions
from harp.pruners.straight_through import TopShare
from harp.pruners.twinrep import TwinRep, TwinRepOptions

__all__ = [
    "ACDC",
    "BCSP",
    "DNR",
    "MAD",
    "METHODS",
    "RADMM",
    "RST",
    "S2AP",
    "ACDCOptions",
    "AnpVs",
    "AnpVsOptions",
    "BCSPOptions",
    "Chord",
    "ChordOptions",
    "Course",
    "Cyclic",
    "CyclicOptions",
    "DNROptions",
    "Feather",
    "FeatherOptions",
    "FlyingBird",
    "FlyingBirdOptions",
    "FlyingBirdPlus",
    "FlyingBirdPlusOptions",
    "Harp",
    "HarpOptions",
    "Hydra",
    "L1Filters",
    "Li20",
    "Li20Options",
    "MADOptions",
    "Magnitude",
    "MagnitudeOptions",
    "Masked",
    "Method",
    "Moment",
    "MovingMasks",
    "Options",
    "Pruner",
    "PwoA",
    "PwoAOptions",
    "RADMMOptions",
    "RatesOnly",
    "Reparam",
    "RobustBird",
    "RobustBirdOptions",
    "Role",
    "S2APOptions",
    "ScoresOnly",
    "ScoresOptions",
    "Scoring",
    "SearchWarning",
    "TopShare",
    "TwinRep",
    "TwinRepOptions",
    "begins_untrained",
    "make_pruner",
    "options_of",
]

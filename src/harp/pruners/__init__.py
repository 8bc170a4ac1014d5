"""The pruning methods, each one file, all working by pull and push."""

from harp.pruners.base import METHODS, Pruner, SearchWarning
from harp.pruners.harp import Harp, RatesOnly
from harp.pruners.hydra import Hydra
from harp.pruners.masked import Masked
from harp.pruners.reparam import Reparam
from harp.pruners.scores import ScoresOnly
from harp.pruners.straight_through import TopShare

__all__ = [
    "METHODS",
    "Harp",
    "Hydra",
    "Masked",
    "Pruner",
    "RatesOnly",
    "Reparam",
    "ScoresOnly",
    "SearchWarning",
    "TopShare",
]

"""HYDRA: learned scores under one fixed keep rate for every layer (Sehwag et al., NeurIPS 2020)."""

from harp.pruners.base import METHODS
from harp.pruners.scores import ScoresOnly
from harp.sparsity import Budget, Sites, Units


@METHODS.register("hydra")
class Hydra(ScoresOnly):
    """HYDRA: learned scores, the same keep rate in every layer (HARP with uniform rates)."""

    def __init__(self, what: Sites | Units, budget: Budget):
        super().__init__(what, budget, start="uniform")

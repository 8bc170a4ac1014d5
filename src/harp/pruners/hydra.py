"""HYDRA: learned scores under one fixed keep rate for every layer (Sehwag et al., NeurIPS 2020)."""

from harp.pruners.base import METHODS
from harp.pruners.scores import Scores
from harp.sparsity import Budget, Sites, uniform
from harp.sparsity.budgets import Counts


@METHODS.register("hydra")
class Hydra(Scores):
    """HYDRA: learned scores, the same keep rate in every layer (HARP with uniform rates)."""

    def __init__(self, sites: Sites, budget: Budget):
        super().__init__(sites, budget)
        self._counts = uniform(sites, budget)

    def counts(self) -> Counts:
        return self._counts

    def settled_counts(self) -> Counts:
        return self._counts

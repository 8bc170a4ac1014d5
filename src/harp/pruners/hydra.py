"""HYDRA: learned scores under one fixed keep rate for every layer (Sehwag et al., NeurIPS 2020)."""

from harp.pruners.base import METHODS
from harp.pruners.method import Course, Options
from harp.pruners.scores import ScoresOnly
from harp.sparsity import Budget, Sites, Units


@METHODS.register("hydra")
class Hydra(ScoresOnly):
    """HYDRA: learned scores, the same keep rate in every layer (Sehwag et al., NeurIPS 2020)."""

    takes = Options

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: Options | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)

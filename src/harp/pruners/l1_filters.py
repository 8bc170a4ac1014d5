"""L1 filters: in each layer the filters of smallest absolute sum go (Li et al., ICLR 2017)."""

from harp.errors import HarpError
from harp.pruners.base import METHODS
from harp.pruners.method import Course, Options
from harp.pruners.moving import MovingMasks
from harp.sparsity import Budget, ChannelUnits, Sites, Units, allocation, allot, top_mask


@METHODS.register("l1-filters")
class L1Filters(MovingMasks):
    """L1 filters: in each layer the filters of smallest absolute sum go, at once (Li et al., ICLR 2017).

    The sum is over the weights that make a channel, where `magnitude` goes by the 2-norm of those that read it. Every
    layer keeps the same share, which the budget fixes; the paper sets shares by hand. Of channels that a residual sum
    ties together all makers' filters are summed, and they go together: the paper leaves those of the shortcut to
    decide. Needs no step of training; the fine-tuning stage retrains. For channels only. Raises `HarpError` for other
    units, and for a budget below the floors.
    """

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: Options | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        if not isinstance(self.units, ChannelUnits):
            raise HarpError(f"l1-filters removes filters: it needs granularity channels, not {self.units.kind}")
        counts = allot(self.units, budget, allocation("uniform", self.units))
        self.move({name: top_mask(size, counts[name]) for name, size in self.units.filter_sums().items()})

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        return 0

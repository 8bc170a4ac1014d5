"""A method: what any other has to beat."""

import torch

from harp import Budget, Course, MovingMasks, Options, Sites, Units
from harp.sparsity import allocation, allot, top_mask


class RandomOptions(Options):
    draw: int = 0
    """which of the random choices under one seed"""


class RandomWeights(MovingMasks):
    """Random weights: which units stay is drawn, as many in each layer as the budget's share."""

    takes = RandomOptions

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: RandomOptions | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        counts = allot(self.units, budget, allocation("uniform", self.units))
        noise = (course or Course(1)).noise("choice", (options or RandomOptions()).draw)
        chosen = {}
        for name, size in self.units.magnitudes().items():
            drawn = torch.rand(size.shape, generator=noise)  # on the CPU, so that every device draws alike
            chosen[name] = top_mask(drawn.to(size.device), counts[name])
        self.move(chosen)

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        return 0

"""Li20: adversarial winning tickets, cut by magnitudes that are alike in every layer (Li et al., 2020)."""

from harp.pruners.base import METHODS
from harp.pruners.method import Course, Options
from harp.pruners.moving import MovingMasks
from harp.sparsity import Budget, Sites, Units, largest


@METHODS.register("li20")
class Li20(MovingMasks):
    """Li20: the largest weights of the dense network, each over its layer's mean, stay, at once (Li et al., 2020).

    One ranking over all layers. The tickets of the paper begin anew from the weights that the network was built with:
    `finetune.rewind true`. It trains the dense network at a small learning rate (.01) and the ticket at a larger one
    (.1). Each layer keeps its floor, where the published percentile knows none; the released code also shrinks biases
    by their row's density after every step, which nothing here does (METHODS 2.12). For any units. Raises `HarpError`
    for a budget below the floors.
    """

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: Options | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        sizes = self.units.magnitudes()
        scores = {name: size / size.mean().clamp(min=1e-30) for name, size in sizes.items()}
        self.move(largest(self.units, budget, scores))

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        return 0

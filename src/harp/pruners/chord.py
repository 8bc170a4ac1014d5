"""Chord: rates, scores and the weights themselves learned together; a method of this project."""

from torch import nn

from harp.ambient import pinned
from harp.config.values import Positive
from harp.errors import HarpError
from harp.pruners.base import METHODS
from harp.pruners.harp import Harp, HarpOptions
from harp.pruners.method import Course, Role
from harp.pruners.rates import Mode
from harp.pruners.straight_through import Estimator
from harp.runs import Tree
from harp.sparsity import Budget, Sites, Units, units_of


class ChordOptions(HarpOptions):
    """What `chord` can be told: what `harp` can, with other defaults, and how fast the weights learn."""

    mode: Mode = "exact"
    """how the rates are held to the budget: exactly at every step, or by a growing penalty, as published"""
    estimator: Estimator = "marginal"
    """gradient of the rates: at the margin, or summed over the layer, as published, over the pruned, or none"""
    weight_lr: Positive = 0.1
    """learning rate of the weights, as a factor on the stage's"""


@METHODS.register("chord")
class Chord(Harp):
    """Chord: HARP whose weights learn along, under a budget that falls to its end (ours, unpublished).

    HARP freezes the weights while it searches, so its scores learn what the weights of a dense network are worth; here
    the weights in the network learn, too, by a tenth of the stage's rate, and so do biases. What is not in the network
    keeps its value until its score brings it back. The budget is met exactly at every step, and falls to `keep` over
    the first 60 % of the stage (`Exact`); a rate's gradient is taken at the margin, where a mask really changes. Train
    on afterwards under the masks. On the small network of docs/results it was ahead of HARP at 5 and 10 % on the
    one seed run, a point behind at 1 %, and cut through at 0.1 %; where channels went first it was ahead of HARP at
    both, at 1 % by 1.3 points over ten seeds. On a larger network at 1 % the two were level, and channels first cost
    1.7 points. Raises `HarpError` as `Harp` does, and for a frozen weight.
    """

    takes = ChordOptions
    companions = "all"
    options: ChordOptions

    @pinned()
    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: ChordOptions | None = None, course: Course | None = None
    ):
        for site in units_of(what).sites:
            if not site.param.requires_grad:
                raise HarpError(f"{site.name} is frozen, and chord trains it; exclude or unfreeze it")
        super().__init__(what, budget, options=options or ChordOptions(), course=course)
        self.latent = {name: nn.Parameter(weight.clone()) for name, weight in self.dense.items()}
        self.dense = dict(self.latent)

    def trainables(self) -> dict[str, Role]:
        return {**super().trainables(), "weights": Role(list(self.latent.values()), lr=self.options.weight_lr)}

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "dense": {name: weight.detach() for name, weight in self.latent.items()}}

"""RST: a robust subnetwork found in weights that are never trained (Fu et al., NeurIPS 2021)."""

import math

import torch
from torch import Tensor

from harp.ambient import pinned
from harp.pruners.base import METHODS
from harp.pruners.method import Course, Options
from harp.pruners.scores import ScoresOnly
from harp.sparsity import Budget, Site, Sites, Units


@METHODS.register("rst")
class RST(ScoresOnly):
    """RST: learned scores over random weights of one size, which nobody trains (Fu et al., NeurIPS 2021).

    A weight of a pruned layer is sqrt(2 / fan_in) with the sign that it was built with, a score begins anywhere in
    +-1 / sqrt(fan_in), and every layer keeps the same share, the largest scores in size, the gradient passing straight
    through (160 epochs on the scores alone, weight decay 5e-4). Normalisation trains no scale and no shift, and biases
    stay as they were built. In the paper the network is finished then; here it is the pruned one of the run, a lower
    anchor for the others, and fine-tuning trains its weights as those of every method.

    Departures (METHODS 2.11): the budget is met exactly; the attack is in eval mode and in units of pixels. Random
    switching between tickets is no part of it. Channels, which the paper does not have, begin with scores in
    +-1 / sqrt(channels).
    """

    takes = Options
    begins = "untrained"
    companions = "none"

    @pinned()
    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: Options | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        course = course or Course(1)
        # Not in place: what was copied from the sites is what is compared with them before the first write.
        self.dense = {site.name: _constant(site, self.dense[site.name], course) for site in self.sites}
        by_name = {site.name: site for site in self.sites}
        for name, score in self.scores.items():
            fan_in = _fan_in(by_name[name]) if self.units.kind == "weights" else len(score)
            drawn = torch.rand(score.shape, generator=course.noise("rst", "scores", name))
            with torch.no_grad():
                score.copy_((2 * drawn - 1) / math.sqrt(fan_in))


def _fan_in(site: Site) -> int:
    return site.size // site.param.shape[site.out_axis]


def _constant(site: Site, weight: Tensor, course: Course) -> Tensor:
    # A layer that is built as zeros has no signs; they are drawn then.
    drawn = torch.rand(weight.shape, generator=course.noise("rst", "signs", site.name)).to(weight.device)
    signs = torch.where(weight == 0, torch.where(drawn < 0.5, -1.0, 1.0).to(weight), weight.sign())
    return math.sqrt(2 / _fan_in(site)) * signs

"""RobustBird: a ticket drawn early, once the largest weights stay the same ones (Chen et al., ICLR 2022)."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harp.clock import Step
from harp.config.values import Count, Portion, Span
from harp.errors import HarpError
from harp.pruners.base import METHODS, like
from harp.pruners.method import Course, Moment, Options
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Sites, Units, largest


class RobustBirdOptions(Options):
    """What `robustbird` can be told."""

    form: Literal["published", "repaired"] = "repaired"
    """published: masks are alike that differ in few of all weights, which at small budgets all do; repaired: in few of
    those kept"""
    every: Span = "1ep"
    """how often the largest weights are looked at, such as 1ep or 500it"""
    looks: Count = 5
    """how many masks in a row have to be alike"""
    apart: Portion | None = None
    """the most they differ by: published a share of all weights, repaired of what two masks of that size could differ
    in; none: 0.08 and 0.2, which are one number where a fifth is kept"""


@METHODS.register("robustbird")
class RobustBird(MovingMasks):
    """RobustBird: trained from scratch until the largest weights stay so, then cut to them (Chen et al., ICLR 2022).

    At each look the mask of the largest weights of the whole network, at the budget, is compared with those of the
    looks before. Once the newest differs from none of them by more than `apart` the stage ends, and the largest weights
    then are kept, with their values: the ticket, which fine-tuning trains adversarially. The paper searches it in
    natural training of at most 200 epochs (`prune.objective natural`, `prune.selection last`) and prunes convolutions
    alone when it compares; here both go over all that is selected.

    Two masks that keep a share d differ in at most 2 d of all weights, so the published test, 0.08 of these, is void
    for d up to 0.04 and draws the ticket at the fifth look (METHODS 2.9); the repaired one divides by 2 d. Each layer
    keeps its floor. For any units. Raises `HarpError` for a budget below the floors, and without a `course`.
    """

    takes = RobustBirdOptions
    begins = "untrained"

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: RobustBirdOptions | None = None,
        course: Course | None = None,
    ):
        super().__init__(what, budget)
        if course is None:
            raise HarpError("robustbird looks every so many epochs: it needs course=harp.Course(steps_per_epoch)")
        self.options, self.course = options or RobustBirdOptions(), course
        self.every = Step.parse(self.options.every).steps(course.steps_per_epoch)
        budget.floors(self.units.sizes, self.units.cost(budget.of))
        self.seen: list[dict[str, Tensor]] = []
        self._step = 0

    def final(self) -> Mapping[str, Tensor]:
        return largest(self.units, self.budget, self.units.magnitudes())

    def push(self, moment: Moment) -> None:
        if moment.step > self._step and moment.step % self.every == 0:
            self.seen = [*self.seen, dict(self.final())][-self.options.looks :]
        self._step = moment.step
        super().push(moment)

    @property
    def done(self) -> bool:
        return len(self.seen) == self.options.looks and self.distance() <= self.limit + 1e-12

    @property
    def limit(self) -> float:
        """The most that masks which count as alike differ by."""
        usual = {"published": 0.08, "repaired": 0.2}[self.options.form]
        return usual if self.options.apart is None else self.options.apart

    def distance(self) -> float:
        """How far the newest mask is from the furthest of those before it, in [0, 1]."""
        *before, newest = self.seen
        units = sum(self.units.sizes)
        kept = sum(int(mask.sum()) for mask in newest.values())
        whole = units if self.options.form == "published" else 2 * kept
        return max((_differing(newest, mask) for mask in before), default=0) / whole

    def record(self, moment: Moment) -> dict[str, Any]:
        return {**super().record(moment), **({"distance": self.distance()} if self.seen else {})}

    def notes(self) -> list[str]:
        if self.done:
            return []
        looks = f"after {len(self.seen)} of {self.options.looks} looks" if len(self.seen) < self.options.looks else ""
        far = "" if looks else f"the last masks were {self.distance():.2g} apart, more than {self.limit:g}"
        return [f"the ticket was drawn before the largest weights stayed the same: {looks or far}"]

    def state_dict(self) -> Tree:
        return {
            **super().state_dict(),
            "seen": {str(at): dict(masks) for at, masks in enumerate(self.seen)},
            "step": self._step,
        }

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.seen = [
            {name: like(self.chosen, masks)[name].to(mask.device) for name, mask in self.chosen.items()}
            for _, masks in sorted(state["seen"].items(), key=lambda item: int(item[0]))
        ]
        self._step = state["step"]


def _differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> int:
    return sum(int(torch.logical_xor(mask, second[name]).sum()) for name, mask in first.items())

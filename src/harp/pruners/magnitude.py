"""Magnitude pruning: the largest weights stay, at once, step by step, or in rounds (Han et al., NeurIPS 2015)."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from harp.config.values import Number, Text
from harp.errors import HarpError
from harp.pruners.base import METHODS
from harp.pruners.method import Course, Moment, Options
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Sites, Units, allocation, allot, top_mask


class MagnitudeOptions(Options):
    """What `magnitude` can be told."""

    schedule: Literal["one-shot", "gradual", "iterative"] = "one-shot"
    """cut at once, with no training here; every epoch, along a cubic; or in rounds with training between"""
    allocation: Text = "uniform"
    """how layers share the budget: uniform (layer-wise), global (one threshold), erk, lamp, ideal-gas, or a file"""
    share: Annotated[float, Number, Field(gt=0, lt=1)] = 0.2
    """what each round cuts of what the one before left; schedule iterative only"""
    until: Annotated[float, Number, Field(gt=0, le=1)] = 0.5
    """the part of the stage over which the cubic falls; schedule gradual only"""

    def unused(self) -> dict[str, str]:
        belongs = {"share": "iterative", "until": "gradual"}
        made = [name for name, schedule in belongs.items() if self.schedule != schedule]
        return {name: f"it is for schedule {belongs[name]}" for name in made if name in self.model_fields_set}


@METHODS.register("magnitude")
class Magnitude(MovingMasks):
    """The largest weights stay, at once, along a cubic, or in rounds (Han et al., NeurIPS 2015; Zhu & Gupta, 2018).

    "one-shot" needs no step of training: the fine-tuning stage is that of every method. Magnitudes are those at the
    moment of each cut, so what trains in between may regain nothing, but what is left is ordered anew. Raises
    `HarpError` for a budget below the floors, for an allocation there is not, and for another schedule where the course
    has no number of steps.
    """

    takes = MagnitudeOptions

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: MagnitudeOptions | None = None,
        course: Course | None = None,
    ):
        super().__init__(what, budget)
        self.options = options or MagnitudeOptions()
        self.course = course or Course(1)
        if self.options.schedule != "one-shot" and not self.course.steps:
            raise HarpError(
                f"schedule {self.options.schedule} goes by the stage's steps: course=harp.Course(.., steps)"
            )
        self._cut(budget.keep)  # what cannot be met, or is no allocation, is refused now, not at the first cut
        self._cut_at: int | None = None

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        assert isinstance(options, MagnitudeOptions)
        return 0 if options.schedule == "one-shot" else super().steps(options, course)

    def density(self, step: int) -> float:
        """The share that is left after the cut of this step, or the one before it."""
        keep, steps, per_epoch = self.budget.keep, self.course.steps or 0, self.course.steps_per_epoch
        if self.options.schedule == "one-shot":
            return keep
        if self.options.schedule == "iterative":
            rounds = max(1, math.ceil(math.log(keep) / math.log(1 - self.options.share) - 1e-9)) if keep < 1 else 1
            done = min(rounds, 1 + step * rounds // steps)
            return max(keep, (1 - self.options.share) ** done)
        epochs = max(1.0, self.options.until * steps / per_epoch)
        left = max(0.0, 1 - (step // per_epoch) / epochs)
        return keep + (1 - keep) * left**3

    def push(self, moment: Moment) -> None:
        density = self.density(moment.step)
        if self._cut_at is None or (moment.step > self._cut_at and density < self.density(self._cut_at)):
            if self._cut_at is not None:
                self.write()  # momentum from before a cut may have moved what is pruned
            self.move(self._cut(density))
            self._cut_at = moment.step
        super().push(moment)

    def final(self) -> dict[str, Tensor]:
        return self._cut(self.budget.keep)

    def _cut(self, keep: float) -> dict[str, Tensor]:
        budget = Budget(keep, self.budget.of, self.budget.floor)
        counts = allot(self.units, budget, allocation(self.options.allocation, self.units))
        return {name: top_mask(size, counts[name]) for name, size in self.units.magnitudes().items()}

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "cut_at": self._cut_at}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self._cut_at = state["cut_at"]

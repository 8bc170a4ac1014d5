"""Cyclic sparsity: a density that rises and falls again before it stays, for the smallest budgets (EAST, 2024)."""

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from harp.config.values import Count, Number, Span, Text
from harp.pruners.base import METHODS
from harp.pruners.flyingbird import FlyingBird, FlyingBirdOptions
from harp.pruners.method import Course
from harp.pruners.rewiring import Rate
from harp.sparsity import Budget, Counts, Sites, Units, allocation, allot, top_mask


class CyclicOptions(FlyingBirdOptions):
    """What `cyclic` can be told."""

    every: Span = "100it"
    """how often weights are dropped and others grown, such as 100it or 2ep"""
    grow: Literal["random", "gradient"] = "gradient"
    """which pruned weights grow: those of the largest gradient, as published, or drawn at random"""
    start: Text = "erk"
    """how layers share the budget: erk, as published, uniform, ideal-gas, lamp, global, or a file"""
    cycles: Count = 2
    """how often the density rises and falls"""
    swing: Rate = 0.4
    """the part of the stage, from its beginning, that the cycles take"""
    peak: Annotated[float, Number, Field(ge=1, le=100)] = 3.0
    """how many times the budget is kept at the top of a cycle"""


@METHODS.register("cyclic")
class Cyclic(FlyingBird):
    """Cyclic sparsity: the density swings up to thrice the budget and back before it stays (EAST, arXiv 2411.13545).

    Over the first part of the stage layers keep what `start` gives them of the density d + (peak d - d) (1 - cos 2 pi
    tau) / 2, tau counting cycles: weights grow as it rises, the smallest go as it falls. After that as many are dropped
    as grow, as in FlyingBird. Of EAST this is the schedule alone: its activations that turn into ReLU and the tensors
    that blocks share are another network's (METHODS 9.7). What is validated, and what `settle` leaves, is cut to the
    budget. For single weights; raises what FlyingBird raises.
    """

    takes = CyclicOptions

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: CyclicOptions | None = None,
        course: Course | None = None,
    ):
        self.cyclic = options or CyclicOptions()
        super().__init__(what, budget, options=self.cyclic, course=course)
        self._allotted = self.chosen.counts

    def density(self, step: int) -> float:
        """How many times the budget is kept after `step`, from 1 to `peak`."""
        long = self.cyclic.swing * (self.course.steps or 1)
        if step >= long:
            return 1.0
        return 1 + (self.cyclic.peak - 1) * (1 - math.cos(2 * math.pi * self.cyclic.cycles * step / long)) / 2

    def moved(self, step: int, name: str, kept: int, size: int) -> tuple[int, int]:
        more = self._counts(step)[name] - kept
        if self.density(step) > 1 or more:
            return max(0, -more), max(0, more)
        return super().moved(step, name, kept, size)

    def _counts(self, step: int) -> Counts:
        """What each layer keeps after `step`."""
        density = self.density(step)
        if density == 1:
            return self._allotted
        wider = replace(self.budget, keep=min(1.0, self.budget.keep * density))
        return allot(self.units, wider, allocation(self.cyclic.start, self.units))

    def final(self) -> dict[str, Tensor]:
        sizes = self.units.magnitudes()
        if self.chosen.counts == self._allotted:
            return dict(self.chosen)
        cut = {name: size.masked_fill(~self.chosen[name], -1) for name, size in sizes.items()}
        return {name: top_mask(size, self._allotted[name]) for name, size in cut.items()}

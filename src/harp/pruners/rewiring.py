"""Sparse training from scratch that moves weights as it goes: what FlyingBird and DNR share."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harp.clock import Step
from harp.config.values import Number, Span
from harp.errors import HarpError
from harp.pruners.method import Course, Moment, Options
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Sites, Units

Rate = Annotated[float, Number, Field(ge=0, le=1)]


class RewiringOptions(Options):
    """When a method drops weights for others, and how many."""

    every: Span = "900it"
    """how often weights are dropped and others grown, such as 900it or 2ep"""
    drop: Rate = 0.5
    """share of each layer's weights that is dropped the first time; it falls along a cosine over the stage"""
    drop_end: Rate = 0.005
    """the share that it falls to"""

    @model_validator(mode="after")
    def _falls(self) -> "RewiringOptions":
        if self.drop_end > self.drop:
            raise ValueError(f"drop_end {self.drop_end:g} is above drop {self.drop:g}, and the share falls")
        return self


class Rewiring(MovingMasks):
    """Single weights, trained sparse from scratch: every so often some are dropped and others grow.

    Raises `HarpError` for channels, and without a `course` that knows its steps.
    """

    begins: ClassVar[Literal["dense", "untrained"]] = "untrained"

    def __init__(self, what: Sites | Units, budget: Budget, rewiring: RewiringOptions, course: Course | None):
        super().__init__(what, budget)
        name = type(self).__name__
        if self.units.kind != "weights":
            raise HarpError(f"{name} drops and grows single weights; prune {self.units.kind} by another method")
        if course is None or not course.steps:
            raise HarpError(f"{name} goes by the stage's steps: it needs course=harp.Course(steps_per_epoch, steps)")
        self.rewiring, self.course = rewiring, course
        self.every = Step.parse(rewiring.every).steps(course.steps_per_epoch)
        self._step = 0

    def share(self, step: int) -> float:
        """The share of a layer's weights that is dropped after `step`."""
        first, last = self.rewiring.drop, self.rewiring.drop_end
        return last + (first - last) * (1 + math.cos(math.pi * step / (self.course.steps or 1))) / 2

    def moves_after(self, step: int) -> bool:
        """Whether weights are dropped and grown after optimizer step `step`; after the last one nothing could learn."""
        return 0 < step < (self.course.steps or 0) and step % self.every == 0

    def record(self, moment: Moment) -> dict[str, Any]:
        return {**super().record(moment), "dropped_share": self.share(moment.step)}

    def notes(self) -> list[str]:
        if any(self.moves_after(step) for step in range(self.every, self.course.steps or 0, self.every)):
            return []
        return [f"no weight was dropped or grown: the stage is shorter than every={self.rewiring.every}"]

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "step": self._step}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self._step = state["step"]

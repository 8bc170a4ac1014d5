"""AC/DC: sparse and dense phases in turn, so that a weight that was cut may prove itself again (NeurIPS 2021)."""

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from harp.clock import Step
from harp.config.values import Number, Span, Text
from harp.errors import HarpError
from harp.pruners.base import METHODS
from harp.pruners.method import Course, Moment, Options
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Sites, Units, allocation, allot, top_mask


class ACDCOptions(Options):
    """What `acdc` can be told."""

    phase: Span = "2ep"
    """how long a sparse or dense phase lasts, such as 20ep (the paper's, of 200) or 500it"""
    dense: Span = "1ep"
    """how long the dense warm-up before the first cut lasts"""
    last: Annotated[float, Number, Field(ge=0, le=1)] = 0.25
    """the part of the stage at its end that stays sparse, whatever phase it would be"""
    allocation: Text = "global"
    """how layers share the budget: global (one threshold), as published, uniform, erk, lamp, ideal-gas, kept, or a
    file"""


@METHODS.register("acdc")
class ACDC(MovingMasks):
    """AC/DC: weights are cut to the largest, trained, all let back at zero, trained, cut again (Peste et al., 2021).

    Alternating compressed and decompressed training (NeurIPS 2021), from dense trained weights here. What is let back
    begins at 0 and without momentum. The stage ends sparse; a state selected from a dense phase is cut to the budget by
    `settle`, which a note tells. All kinds of units. Raises `HarpError` for a budget below the floors, for an
    allocation there is not, and without a `course` that knows its steps.
    """

    takes = ACDCOptions

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: ACDCOptions | None = None,
        course: Course | None = None,
    ):
        super().__init__(what, budget)
        if course is None or not course.steps:
            raise HarpError("acdc goes by the stage's steps: it needs course=harp.Course(steps_per_epoch, steps)")
        self.options = options or ACDCOptions()
        self.steps_in_all = course.steps
        self.phase = Step.parse(self.options.phase).steps(course.steps_per_epoch)
        self.begins_at = Step.parse(self.options.dense).steps(course.steps_per_epoch)
        self._cut()  # what cannot be met, or is no allocation, is refused now, not at the first cut
        self.sparse, self._step = False, 0

    def is_sparse(self, step: int) -> bool:
        """Whether the step after `step` trains a cut network."""
        if step >= self.steps_in_all * (1 - self.options.last):
            return True
        return step >= self.begins_at and (step - self.begins_at) // self.phase % 2 == 0

    def push(self, moment: Moment) -> None:
        if self.is_sparse(moment.step) != self.sparse:
            self._turn(moment)
        self._step = moment.step
        super().push(moment)

    def _turn(self, moment: Moment) -> None:
        self.write()  # momentum from before may have moved what is pruned
        if self.sparse:
            for site in self.sites:
                moment.forget(site.param, ~self.masks[site.name])
            self.move({name: mask | True for name, mask in self.chosen.items()})
        else:
            self.move(self._cut())
        self.sparse = not self.sparse

    def final(self) -> dict[str, Tensor]:
        return dict(self.chosen) if self.sparse else self._cut()

    def _cut(self) -> dict[str, Tensor]:
        counts = allot(self.units, self.budget, allocation(self.options.allocation, self.units))
        return {name: top_mask(size, counts[name]) for name, size in self.units.magnitudes().items()}

    def notes(self) -> list[str]:
        if self.sparse:
            return []
        return [f"the state that was kept is of a dense phase (step {self._step}), cut to the budget at the end"]

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "sparse": self.sparse, "step": self._step}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.sparse, self._step = state["sparse"], state["step"]

    def record(self, moment: Moment) -> dict[str, Any]:
        return {**super().record(moment), "sparse": self.sparse}

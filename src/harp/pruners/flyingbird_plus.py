"""FlyingBird+: FlyingBird that changes how much it keeps by how the network generalises (Chen et al., ICLR 2022)."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor

from harp.clock import Step
from harp.config.values import Count, Number, Span
from harp.pruners.base import METHODS
from harp.pruners.flyingbird import FlyingBird, FlyingBirdOptions
from harp.pruners.method import Course
from harp.pruners.rewiring import Rate
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Sites, Units, allot, from_rates, top_mask


class FlyingBirdPlusOptions(FlyingBirdOptions):
    """What `flyingbird+` can be told."""

    since: Span = "100ep"
    """from when on it may keep more or less, such as 100ep or 500it"""
    window: Count = 4
    """over how many of the last changes from one measuring to the next it judges"""
    more: Rate = 0.4
    """how much more it drops, as a share of what it drops anyway, where the network overfits"""
    growth: Annotated[float, Number, Field(ge=1, le=10)] = 1.05
    """how many times as many weights grow where the held-out images are not learned any better"""


@METHODS.register("flyingbird+")
class FlyingBirdPlus(FlyingBird):
    """FlyingBird+: FlyingBird that keeps less where it overfits, more where it stalls (Chen et al., ICLR 2022).

    From `since` on, robust accuracies on held-out and on as many training images are compared with those before. Where
    the gap between the two has grown at least half of the times, each layer drops ceil(more * share * kept) weights
    beyond FlyingBird's, for which none grow; where the held-out error has not fallen at least half of the times,
    `growth` times as many grow. Both may happen. The released code looks at the held-out loss, for which the error
    stands here, and ends with whatever it keeps. Here what is measured, and what `settle` leaves, meets the budget:
    layers share it as they stand, each cut to its largest weights or filled up by drawn ones that begin at 0 and are
    left to fine-tuning. In a stage that measures nothing (`selection: last`) it is FlyingBird, which a note tells.
    Raises what that raises.
    """

    takes = FlyingBirdPlusOptions
    hears_training = True

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: FlyingBirdPlusOptions | None = None,
        course: Course | None = None,
    ):
        self.plus = options or FlyingBirdPlusOptions()
        super().__init__(what, budget, options=self.plus, course=course)
        self.since = Step.parse(self.plus.since).steps(self.course.steps_per_epoch)
        self._begun = self.chosen.counts
        self._gaps: list[float] = []
        self._errors: list[float] = []

    def hear(self, measures: Mapping[str, float]) -> None:
        for past, value in (
            (self._gaps, measures["train_robust"] - measures["robust"]),
            (self._errors, 1 - measures["robust"]),
        ):
            past.append(value)
            del past[: -self.plus.window - 1]

    def overfits(self) -> bool:
        """Whether the gap has grown at least half of the last times."""
        return self._often([later > earlier for earlier, later in zip(self._gaps, self._gaps[1:], strict=False)])

    def stalls(self) -> bool:
        """Whether the error has not fallen at least half of the last times."""
        return self._often([later >= earlier for earlier, later in zip(self._errors, self._errors[1:], strict=False)])

    def _often(self, seen: list[bool]) -> bool:
        return len(seen) == self.plus.window and 2 * sum(seen) >= self.plus.window

    def moved(self, step: int, name: str, kept: int, size: int) -> tuple[int, int]:
        gone, grown = super().moved(step, name, kept, size)
        if step < self.since:
            return gone, grown
        if self.overfits():
            gone = min(gone + math.ceil(self.plus.more * self.share(step) * kept), kept - 1)
        if self.stalls():
            grown = min(round(self.plus.growth * grown), size - kept)
        return gone, grown

    def final(self) -> dict[str, Tensor]:
        sizes = {name: size.masked_fill(~self.chosen[name], -1) for name, size in self._sizes()}
        counts = self._final_counts()
        chosen = {}
        for name, size in sizes.items():
            mask, kept = self.chosen[name], int(self.chosen[name].sum())
            come = top_mask(self._drawn(name, "end", size).masked_fill(mask, -1), max(0, counts[name] - kept))
            chosen[name] = top_mask(size, min(kept, counts[name])) | come
        return chosen

    def _final_counts(self) -> Counts:
        kept = self.chosen.counts
        if kept == self._begun:
            return kept
        rates = {name: kept[name] / size for name, size in zip(self.units.names, self.units.sizes, strict=True)}
        return allot(self.units, self.budget, from_rates(self.units, 0.0, rates))

    def notes(self) -> list[str]:
        stood, settled = self.chosen.counts, self._final_counts()
        notes = super().notes()
        if not self._gaps and self._step >= (self.course.steps or 0):  # a state in between may be older than its gaps
            notes.append("nothing was measured before the end, so it was flyingbird; selection best measures")
        if cut := sum(max(0, stood[name] - settled[name]) for name in stood):
            notes.append(f"settle cut {cut:,} weights that the network was trained with, to meet the budget")
        if filled := sum(max(0, settled[name] - stood[name]) for name in stood):
            notes.append(f"settle filled the budget up with {filled:,} weights at 0, for fine-tuning to train")
        return notes

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "gaps": list(self._gaps), "errors": list(self._errors)}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self._gaps, self._errors = list(state["gaps"]), list(state["errors"])

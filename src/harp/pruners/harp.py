"""HARP: how many units to keep in each layer, and which, learned together (Zhao & Wressnegger, ICLR 2023)."""

from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.config.values import NonNegative, Share, Text
from harp.errors import HarpError
from harp.pruners.base import METHODS
from harp.pruners.endings import THROWN, at_the_floor, off_budget, thrown
from harp.pruners.method import Course, Moment, Options, Role
from harp.pruners.rates import Mode, make_rates
from harp.pruners.scores import Scores
from harp.pruners.straight_through import Estimator
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Sites, Units, allot, from_rates


class HarpOptions(Options):
    """What `harp` and `rates-only` can be told."""

    mode: Mode = "penalty"
    """how the rates are held to the budget: by a growing penalty, as published, or exactly at every step"""
    gamma: NonNegative = 0.01
    """first weight of the size penalty, growing by as much every epoch until the budget is met; mode penalty only"""
    estimator: Estimator = "sum"
    """gradient of the rates: summed over the layer, as published, over the pruned, at the margin, or none"""
    start: Text = "uniform"
    """rates to start from: uniform, erk, lamp, ideal-gas, or a YAML or JSON file"""
    start_keep: Share | None = None
    """density to start from; none: 0.1 for weights and 1 for channels, or `keep` where that is more"""
    rate_weight_decay: NonNegative | None = None
    """weight decay of the rates, which alone pulls every layer towards one half; none: the stage's in mode penalty, as
    published, and 0 in mode exact"""

    def unused(self) -> dict[str, str]:
        idle = self.mode == "exact" and "gamma" in self.model_fields_set
        return {"gamma": "mode exact weighs nothing against the loss"} if idle else {}


@METHODS.register("harp")
class Harp(Scores):
    """HARP: scores and one keep rate per layer learned together, within a size budget (Zhao & Wressnegger, ICLR 2023).

    Its two modes are `Penalty`, as published, and `Exact`; the estimators stand in `TopShare`. Raises `HarpError` for a
    budget below the floors, for a start that is no allocation, without a `course`, and for mode exact where that knows
    no number of steps.
    """

    takes = HarpOptions

    @pinned()
    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: HarpOptions | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        if course is None:
            raise HarpError(f"{type(self).__name__} goes by epochs: it needs course=harp.Course(steps_per_epoch)")
        self.options = options or HarpOptions()
        self.estimator = self.options.estimator
        self.learned = make_rates(
            self.units,
            budget,
            self.options.mode,
            self.options.start,
            self.options.start_keep,
            self.options.gamma,
            course,
        )
        self._robust = torch.zeros_like(self.learned.sizes)
        self._size = torch.zeros_like(self.learned.sizes)
        self._before = self.logits.detach().clone()
        # The first step that threw up the rate of each layer group, -1 where none did.
        self._thrown = torch.full_like(self._before, -1, dtype=torch.int64)

    @property
    def logits(self) -> nn.Parameter:
        """The learned r of each layer group, shape [groups]."""
        return self.learned.logits

    def rates(self) -> Tensor:
        return self.learned.now()

    def penalty(self) -> Tensor:
        return self.learned.penalty()

    def counts(self) -> Counts:
        return self.learned.counts()

    def settled_counts(self) -> Counts:
        rates = self.units.named(self.rates().detach().tolist())
        return allot(self.units, self.budget, from_rates(self.units, self.budget.least, rates))

    def trainables(self) -> dict[str, Role]:
        return {**super().trainables(), "rates": self.rate_role()}

    def rate_role(self) -> Role:
        """How the rates train."""
        asked = self.options.rate_weight_decay
        return Role([self.logits], self.learned.decay if asked is None else asked)

    def notes(self) -> list[str]:
        density = float(self.learned.price().detach()) / self.learned.whole
        stood, settled = self.counts(), self.settled_counts()
        told = off_budget(self.units, self.budget, density, stood, settled)
        return [*super().notes(), *told, *thrown(self.units, self._thrown.tolist()), *self.collapsed()]

    def collapsed(self) -> list[str]:
        return at_the_floor(self.units, self.budget, self.rates().detach().tolist())

    def pull(self) -> None:
        self._before = self.logits.detach().clone()
        # Before the pull the logits' gradient is the penalty's alone: the model never sees the logits themselves.
        self._size = torch.zeros_like(self._size) if self.logits.grad is None else self.logits.grad.clone()
        super().pull()
        after = self._size if self.logits.grad is None else self.logits.grad
        self._robust = after - self._size

    def push(self, moment: Moment) -> None:
        if self._last == "pulled":
            rose = self.logits.detach() - self._before
            self._thrown = self._thrown.masked_fill((rose >= THROWN) & (self._thrown < 0), moment.step)
        self.learned.advance(moment.step)
        super().push(moment)

    def record(self, moment: Moment) -> dict[str, Any]:
        decay = (moment.setting("rates", "weight_decay") or 0.0) * self.logits.detach()
        return {
            **self.learned.record(),
            "rates": self.units.named(self.rates().detach().tolist()),
            "rate_gradients": {
                name: self.units.named(values.tolist())
                for name, values in (("robust", self._robust), ("size", self._size), ("decay", decay))
            },
        }

    def state_dict(self) -> Tree:
        return {
            **super().state_dict(),
            **self.learned.state_dict(),
            "gradients": {"robust": self._robust, "size": self._size},
            "thrown": self._thrown,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.learned.load_state_dict(state)
        self._robust.copy_(state["gradients"]["robust"])
        self._size.copy_(state["gradients"]["size"])
        # What this search has seen stays known where it goes back to an earlier state, such as its best.
        self._thrown = torch.where(self._thrown < 0, state["thrown"].to(self._thrown), self._thrown)


@METHODS.register("rates-only")
class RatesOnly(Harp):
    """Learned keep rates, the order inside each layer that of magnitude: HARP's ablation (section 4)."""

    def trainables(self) -> dict[str, Role]:
        return {"rates": self.rate_role()}

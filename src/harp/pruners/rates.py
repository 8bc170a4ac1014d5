"""One learnable keep rate per layer group, held to the budget by a growing penalty or exactly at every step."""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.pruners.method import Course
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Units, allocation, apportion, from_logits, rates_at
from harp.sparsity.budgets import solve

Mode = Literal["penalty", "exact"]


class Rates(ABC):
    """k = least + (1 - least) sigmoid(r), r learned, least = floor * keep; one rate a layer group (HARP, equation 2).

    The rates begin with the allocation `start` (`ALLOCATIONS`, or a file) at density `at`.
    """

    decay: float | None = None
    """The weight decay of the logits unless somebody asks for another; None is the optimizer's, as published."""

    def __init__(self, units: Units, budget: Budget, start: str, at: float):
        self.units, self.budget = units, budget
        self.cost = units.cost(budget.of)
        self.whole = self.cost(units.sizes)
        self.floors = budget.floors(units.sizes, self.cost)
        device = units.sites[0].param.device
        shares = rates_at(units, Budget(at, budget.of), allocation(start, units))
        self.logits = nn.Parameter(
            torch.tensor([_first_logit(s, budget.least) for s in shares.tolist()], dtype=torch.float32, device=device)
        )
        self.sizes = torch.tensor(units.sizes, dtype=torch.float32, device=device)

    @abstractmethod
    def now(self) -> Tensor:
        """The rates in force, shape [groups], differentiable in `logits`."""

    @abstractmethod
    def counts(self) -> Counts:
        """How many units each layer group keeps in the next forward pass."""

    def penalty(self) -> Tensor:
        """What the loss gains."""
        return torch.zeros_like(self.logits[0].detach())

    @abstractmethod
    def advance(self, step: int) -> None:
        """Optimizer step `step` is done."""

    def price(self) -> Tensor:
        """What the rates in force cost, in the budget's unit."""
        return self.cost.tensor(self.now() * self.sizes)

    def record(self) -> dict[str, Any]:
        """JSON values for the metrics."""
        return {"density": float(self.price().detach() / self.whole)}

    def state_dict(self) -> Tree:
        """All that `load_state_dict` needs."""
        return {"logits": self.logits.detach()}

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        """Takes up the state that `state_dict` gave."""
        self.logits.copy_(state["logits"])

    def _shares(self, shift: Tensor | float = 0.0) -> Tensor:
        least = self.budget.least
        return least + (1 - least) * torch.sigmoid(self.logits + shift)


class Penalty(Rates):
    """The paper's: the loss gains gamma_e * max(cost / budget - 1, 0) (section 3, equations 4 and 5).

    gamma_e = (e + 1) * gamma in epoch e until an epoch ends with the excess rounding to 0.0000, and that epoch's value
    from then on.
    """

    def __init__(
        self, units: Units, budget: Budget, start: str, start_keep: float, *, gamma: float, steps_per_epoch: int
    ):
        super().__init__(units, budget, start, start_keep)
        self.first_gamma, self.steps_per_epoch = gamma, steps_per_epoch
        self.frozen_gamma: float | None = None
        self.epoch = 0

    @property
    def gamma(self) -> float:
        """The weight of the penalty in this epoch."""
        return (self.epoch + 1) * self.first_gamma if self.frozen_gamma is None else self.frozen_gamma

    def now(self) -> Tensor:
        return self._shares()

    def excess(self) -> Tensor:
        """How far the rates exceed the budget, as a share of it; 0 where they meet it."""
        return (self.price() / (self.budget.keep * self.whole) - 1).clamp(min=0)

    def penalty(self) -> Tensor:
        return self.gamma * self.excess()

    def counts(self) -> Counts:
        rates = self.now().detach().tolist()
        return self.units.named([_ceil(rate, size) for rate, size in zip(rates, self.units.sizes, strict=True)])

    def advance(self, step: int) -> None:
        if step and step % self.steps_per_epoch == 0:
            if self.frozen_gamma is None and round(float(self.excess().detach()), 4) == 0:
                self.frozen_gamma = self.gamma
            self.epoch = step // self.steps_per_epoch

    def record(self) -> dict[str, Any]:
        return {
            **super().record(),
            "penalty": float(self.excess().detach()),
            "gamma": self.gamma,
            "target_met": self.frozen_gamma is not None,
        }

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "gamma": {"frozen": self.frozen_gamma, "epoch": self.epoch}}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.frozen_gamma, self.epoch = state["gamma"]["frozen"], state["gamma"]["epoch"]


class Exact(Rates):
    """The budget holds at every step: one shift is added to all logits, so that the rates cost what is allowed.

    What is allowed falls from `start_keep` to `keep` by a cubic over the first `ramp` of the stage's `steps`. The shift
    is solved anew at every step, by bisection, and depends on the logits; the gradient takes that into account (`now`).
    So it has no part that would change the price: only the sharing out is learned, and no gamma weighs it against the
    loss. `start` is how `keep` would be shared out if nothing were learned; what more is allowed before that goes by
    the same shift.
    """

    ramp = 0.6
    # Decay draws every rate to one half; held to a budget, that is towards uniform rates.
    decay = 0.0

    def __init__(self, units: Units, budget: Budget, start: str, start_keep: float, *, steps: int):
        super().__init__(units, budget, start, budget.keep)
        self.start_keep, self.steps = start_keep, steps
        self.step = 0

    @property
    def allowed(self) -> int:
        """What the units may cost at this step."""
        left = max(0.0, 1 - self.step / max(1.0, self.ramp * self.steps))
        keep = self.budget.keep + max(0.0, self.start_keep - self.budget.keep) * left**3
        return round(keep * self.whole)

    def shift(self) -> float:
        """What all logits are moved by so that the rates cost what is allowed."""
        family = from_logits(self._logits(), self.budget.least)
        return solve(family, self.units.sizes, self.floors, self.cost, self.allowed)

    def now(self) -> Tensor:
        """The rates at the solved shift, with the shift's derivative by the logits.

        Bisection has no derivative of its own, but the equation it solves has one (implicit differentiation). It says
        price(logits, shift) = allowed, whatever the logits; so where logits change the price by d, the shift has to
        change it by -d, and moves by -d over the price's slope in the shift.
        """
        solved = self.shift()
        price = self.cost.tensor(self._shares(solved) * self.sizes)
        change = price - price.detach()  # is 0, but has the price's derivative by the logits at this fixed shift
        shift = solved - change / self._slope(solved)
        return self._shares(shift)

    def _slope(self, shift: float) -> float:
        """The derivative of the price by the shift, by the chain rule over shares, units and price; above 0."""
        least, sizes = self.budget.least, numpy.array(self.units.sizes, dtype=numpy.float64)
        shares = from_logits(self._logits(), least)(shift)
        # least + (1 - least) s with s a sigmoid has the derivative (1 - least) s (1 - s).
        share_slopes = (shares - least) * (1 - shares) / (1 - least)
        price_slopes = self.cost.slopes(shares * sizes)
        slope = float(price_slopes @ (sizes * share_slopes))
        return max(slope, 1e-12 * self.whole)  # all rates at an end of their range: no division by 0

    def counts(self) -> Counts:
        family = from_logits(self._logits(), self.budget.least)
        sizes = numpy.array(self.units.sizes, dtype=numpy.float64)
        units = numpy.clip(family(self.shift()) * sizes, self.floors, sizes)
        return self.units.named(apportion(units.tolist(), self.allowed, self.floors, self.units.sizes, self.cost))

    def record(self) -> dict[str, Any]:
        # Of the integers in force: where floors bind, the rates alone cost less.
        counts = self.counts()
        return {"density": self.cost([counts[name] for name in self.units.names]) / self.whole}

    def advance(self, step: int) -> None:
        self.step = step

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.step = state["step"]

    def _logits(self) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]:
        return numpy.array(self.logits.detach().tolist(), dtype=numpy.float64)


def make_rates(
    units: Units, budget: Budget, mode: Mode, start: str, start_keep: float | None, gamma: float, course: Course
) -> Rates:
    """The rates of either mode; no `start_keep` is 1 for channels and 0.1 for others, or `keep` where that is more."""
    usual = 1.0 if units.kind == "channels" else 0.1
    first = max(usual, budget.keep) if start_keep is None else start_keep
    if mode == "penalty":
        return Penalty(units, budget, start, first, gamma=gamma, steps_per_epoch=course.steps_per_epoch)
    if course.steps is None:
        raise HarpError(
            "mode exact lowers the budget along the stage: it needs course=harp.Course(steps_per_epoch, steps)"
        )
    return Exact(units, budget, start, first, steps=course.steps)


def _first_logit(start: float, least: float) -> float:
    # The published clip runs from -0.99, which makes the logit NaN for a start at or below the floor (METHODS 1.10).
    share = min(max((start - least) / (1 - least), 0.01 * start), 0.99)
    return math.log(share / (1 - share))


def _ceil(rate: float, size: int) -> int:
    # A float32 rate is off by up to 1e-7 of itself; that must not buy a unit.
    return min(max(1, math.ceil(rate * size * (1 - 1e-6))), size)

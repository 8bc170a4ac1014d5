"""HARP: how many units to keep in each layer, and which, learned together (Zhao & Wressnegger, ICLR 2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.pruners.base import METHODS
from harp.pruners.endings import at_the_floor, off_budget
from harp.pruners.rates import Mode, make_rates
from harp.pruners.scores import Scores
from harp.pruners.straight_through import Estimator
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Sites, Units, allot, from_rates


@METHODS.register("harp")
class Harp(Scores):
    """HARP: scores and one keep rate per layer learned together, within a size budget.

    `mode`: "penalty", as published, weighs the excess size against the loss, by `gamma` and growing every
    `steps_per_epoch`; "exact" keeps to a budget that falls over `steps` (see `Penalty` and `Exact`). `start` and
    `start_keep`: the allocation and density the rates begin with. `estimator`: see `TopShare`. Raises `HarpError` for a
    budget below the floors, for a start that is no allocation, and for mode exact without `steps`.
    """

    @pinned()
    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        steps_per_epoch: int,
        steps: int | None = None,
        mode: Mode = "penalty",
        estimator: Estimator = "sum",
        gamma: float = 0.01,
        start: str = "uniform",
        start_keep: float | None = None,
    ):
        super().__init__(what, budget)
        self.estimator = estimator
        self.learned = make_rates(
            self.units, budget, mode, start, start_keep, gamma=gamma, steps_per_epoch=steps_per_epoch, steps=steps
        )
        self._robust = torch.zeros_like(self.learned.sizes)
        self._size = torch.zeros_like(self.learned.sizes)

    @property
    def logits(self) -> nn.Parameter:
        """The learned r of each pool, shape [pools]."""
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

    def trainables(self) -> dict[str, list[nn.Parameter]]:
        return {**super().trainables(), "rates": [self.logits]}

    def decays(self) -> Mapping[str, float]:
        return {} if self.learned.decay is None else {"rates": self.learned.decay}

    def notes(self) -> list[str]:
        density = float(self.learned.price().detach()) / self.learned.whole
        stood, settled = self.counts(), self.settled_counts()
        return [*off_budget(self.units, self.budget, density, stood, settled), *self.collapsed()]

    def collapsed(self) -> list[str]:
        return at_the_floor(self.units, self.budget, self.rates().detach().tolist())

    def pull(self) -> None:
        # Before the pull the logits' gradient is the penalty's alone: the model never sees the logits themselves.
        self._size = torch.zeros_like(self._size) if self.logits.grad is None else self.logits.grad.clone()
        super().pull()
        after = self._size if self.logits.grad is None else self.logits.grad
        self._robust = after - self._size

    def push(self, step: int) -> None:
        self.learned.advance(step)
        super().push(step)

    def record(self, weight_decay: float) -> dict[str, Any]:
        decay = weight_decay * self.logits.detach()
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
        }

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.learned.load_state_dict(state)
        self._robust.copy_(state["gradients"]["robust"])
        self._size.copy_(state["gradients"]["size"])


@METHODS.register("rates-only")
class RatesOnly(Harp):
    """Learned keep rates, the order inside each layer that of magnitude: HARP's ablation (section 4)."""

    def trainables(self) -> dict[str, list[nn.Parameter]]:
        return {"rates": [self.logits]}

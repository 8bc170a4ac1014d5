"""HARP for weights: how many to keep in each layer, and which, learned together (Zhao & Wressnegger, ICLR 2023)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruners.base import METHODS
from harp.pruners.scores import Scores
from harp.runs import Tree
from harp.sparsity import Budget, Sites, from_rates
from harp.sparsity.budgets import Counts


@METHODS.register("harp")
class Harp(Scores):
    """HARP: scores and one keep rate per layer learned together, under a growing size penalty.

    A site keeps the share k = least + (1 - least) sigmoid(r) of its weights, r learned, least = floor * keep.
    The loss gains gamma_e * max(sum n k / (keep N) - 1, 0), where gamma_e = (e + 1) * gamma in epoch e until an epoch
    ends with the excess rounding to 0.0000, and keeps that epoch's value from then on (section 3, equations 2 to 5).

    `steps_per_epoch`: optimiser steps in one e. `start_keep`: the share every layer starts from; None is 0.1 as
    published, or `keep` where that is more. Gradients of the rates: see `TopShare`.
    """

    def __init__(
        self,
        sites: Sites,
        budget: Budget,
        *,
        steps_per_epoch: int,
        gamma: float = 0.01,
        start_keep: float | None = None,
    ):
        super().__init__(sites, budget)
        budget.floors([site.size for site in sites])
        self.steps_per_epoch = steps_per_epoch
        self.first_gamma = gamma
        self.frozen_gamma: float | None = None
        self.epoch = 0
        device = sites[0].param.device
        start = max(0.1, budget.keep) if start_keep is None else start_keep
        self.logits = nn.Parameter(torch.full([len(sites)], _first_logit(start, budget.least), device=device))
        self._sizes = torch.tensor([float(site.size) for site in sites], device=device)
        self._robust = torch.zeros_like(self._sizes)
        self._size = torch.zeros_like(self._sizes)

    @property
    def gamma(self) -> float:
        """The weight of the size penalty in this epoch."""
        return (self.epoch + 1) * self.first_gamma if self.frozen_gamma is None else self.frozen_gamma

    def rates(self) -> Tensor:
        """The keep rate k of each site, shape [sites], differentiable in `logits`."""
        least = self.budget.least
        return least + (1 - least) * torch.sigmoid(self.logits)

    def excess(self) -> Tensor:
        """How far the rates exceed the budget, as a share of it; 0 where they meet it."""
        return ((self.rates() * self._sizes).sum() / (self.budget.keep * self._sizes.sum()) - 1).clamp(min=0)

    def penalty(self) -> Tensor:
        return self.gamma * self.excess()

    def counts(self) -> Counts:
        rates = self.rates().detach().tolist()
        return {site.name: _ceil(rate, site.size) for site, rate in zip(self.sites, rates, strict=True)}

    def settled_counts(self) -> Counts:
        rates = self.rates().detach().tolist()
        return from_rates(self.sites, self.budget, {s.name: r for s, r in zip(self.sites, rates, strict=True)})

    def trainables(self) -> dict[str, list[nn.Parameter]]:
        return {**super().trainables(), "rates": [self.logits]}

    def pull(self) -> None:
        # Before the pull the logits' gradient is the penalty's alone: the model never sees the logits themselves.
        self._size = torch.zeros_like(self._size) if self.logits.grad is None else self.logits.grad.clone()
        super().pull()
        after = self._size if self.logits.grad is None else self.logits.grad
        self._robust = after - self._size

    def push(self, step: int) -> None:
        if step and step % self.steps_per_epoch == 0:
            if self.frozen_gamma is None and round(float(self.excess().detach()), 4) == 0:
                self.frozen_gamma = self.gamma
            self.epoch = step // self.steps_per_epoch
        super().push(step)

    def record(self, weight_decay: float) -> dict[str, Any]:
        rates = self.rates().detach()
        return {
            "density": float((rates * self._sizes).sum() / self._sizes.sum()),
            "penalty": float(self.excess().detach()),
            "gamma": self.gamma,
            "target_met": self.frozen_gamma is not None,
            "rates": self._by_site(rates),
            "rate_gradients": {
                "robust": self._by_site(self._robust),
                "size": self._by_site(self._size),
                "decay": self._by_site(weight_decay * self.logits.detach()),
            },
        }

    def _by_site(self, values: Tensor) -> dict[str, float]:
        return {site.name: value for site, value in zip(self.sites, values.tolist(), strict=True)}

    def state_dict(self) -> Tree:
        return {
            **super().state_dict(),
            "logits": self.logits.detach(),
            "gradients": {"robust": self._robust, "size": self._size},
            "gamma": {"frozen": self.frozen_gamma, "epoch": self.epoch},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.logits.copy_(state["logits"])
        self._robust.copy_(state["gradients"]["robust"])
        self._size.copy_(state["gradients"]["size"])
        self.frozen_gamma, self.epoch = state["gamma"]["frozen"], state["gamma"]["epoch"]


def _first_logit(start: float, least: float) -> float:
    # The published clip runs from -0.99, which makes the logit NaN for a start at or below the floor (METHODS 1.10).
    share = min(max((start - least) / (1 - least), 0.01 * start), 0.99)
    return math.log(share / (1 - share))


def _ceil(rate: float, size: int) -> int:
    # A float32 rate is off by up to 1e-7 of itself; that must not buy a weight.
    return min(max(1, math.ceil(rate * size * (1 - 1e-6))), size)

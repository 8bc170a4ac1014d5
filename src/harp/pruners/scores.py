"""Frozen weights under masks that keep the largest learned scores: what HYDRA and HARP share."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harp.pruners.base import Reparam
from harp.runs import Tree
from harp.sparsity import Budget, Masks, Sites, top_mask
from harp.sparsity.budgets import Counts


def top_share(score: Tensor, rate: Tensor, count: int) -> Tensor:
    """`TopShare`, typed."""
    mask: Tensor = TopShare.apply(score, rate, count)  # type: ignore[no-untyped-call]
    return mask


class TopShare(torch.autograd.Function):
    """The mask, as floats, of the `count` largest |score|; the gradient passes straight through.

    With G the gradient at the mask, score gets G * sign(score) and the layer's keep rate gets the sum of G over the
    whole layer, pruned entries included (HARP's published code, METHODS 1.3).
    """

    @staticmethod
    def forward(ctx: Any, score: Tensor, rate: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(score)
        return top_mask(score.abs(), count).to(score.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (score,) = ctx.saved_tensors
        return grads[0] * score.sign(), grads[0].sum(), None


class Scores(Reparam):
    """One learned score per weight; the weights themselves and the biases are frozen, normalisation layers train.

    Scores begin as sqrt(6 / fan_in) * weight / max |weight|, the sign kept (HYDRA, section 3).
    """

    companions: Literal["all", "norms"] = "norms"

    def __init__(self, sites: Sites, budget: Budget):
        super().__init__(sites)
        self.budget = budget
        self.dense = {site.name: site.param.detach().clone() for site in sites}
        self.scores = {name: nn.Parameter(_first_scores(weight)) for name, weight in self.dense.items()}

    @abstractmethod
    def counts(self) -> Counts:
        """How many weights each site keeps in the next forward pass."""

    @abstractmethod
    def settled_counts(self) -> Counts:
        """How many weights each site keeps at the end; they sum to the budget."""

    def rates(self) -> Tensor:
        """The learnable keep rate of each site, shape [sites]; constants here."""
        return torch.tensor([count / site.size for count, site in zip(self.counts().values(), self.sites, strict=True)])

    def trainables(self) -> dict[str, list[nn.Parameter]]:
        return {"scores": list(self.scores.values())}

    def weights(self) -> list[Tensor]:
        counts, rates = self.counts(), self.rates()
        return [
            self.dense[site.name] * top_share(self.scores[site.name], rate, counts[site.name])
            for site, rate in zip(self.sites, rates.unbind(), strict=True)
        ]

    def settle(self) -> Masks:
        counts = self.settled_counts()
        masks = Masks({name: top_mask(score.abs(), counts[name]) for name, score in self.scores.items()})
        _write(self.sites, [self.dense[site.name].masked_fill(~masks[site.name], 0) for site in self.sites])
        return masks

    @contextmanager
    def settled(self) -> Iterator[None]:
        before = [site.param.detach().clone() for site in self.sites]
        self.settle()
        try:
            yield
        finally:
            _write(self.sites, before)

    def state_dict(self) -> Tree:
        return {
            "dense": dict(self.dense),
            "scores": {name: score.detach() for name, score in self.scores.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        for name, score in self.scores.items():
            self.dense[name].copy_(state["dense"][name])
            score.copy_(state["scores"][name])


@torch.no_grad()
def _write(sites: Sites, weights: list[Tensor]) -> None:
    for site, weight in zip(sites, weights, strict=True):
        site.param.copy_(weight)


def _first_scores(weight: Tensor) -> Tensor:
    fan_in = weight[0].numel()
    # An all-zero weight has no order; dividing by 1 leaves its scores zero instead of NaN.
    largest = weight.abs().max()
    return math.sqrt(6 / fan_in) * weight / torch.where(largest > 0, largest, torch.ones_like(largest))

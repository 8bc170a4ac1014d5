"""One order over the units of all layer groups: what a single ranking leaves of each."""

from collections.abc import Mapping

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.sparsity.budgets import SLACK, Budget, apportion
from harp.sparsity.masks import top_mask
from harp.sparsity.units import Units


def largest(units: Units, budget: Budget, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bool masks by layer group, true at the largest `scores` of all layer groups together, above the floor of each.

    What is kept costs what the budget allows (see `apportion`). Of equal scores the earlier group's come first, and
    within a group those of the lowest index. Raises `HarpError` for scores that hold NaN, and for a budget below the
    floors.
    """
    cost = units.cost(budget.of)
    floors, target = budget.floors(units.sizes, cost), budget.count(cost(units.sizes))
    for name in units.names:
        if torch.isnan(scores[name]).any():
            raise HarpError(f"the pruning scores of {name} hold NaN, so no order among the weights exists")
    flat = [scores[name].detach().flatten().cpu() for name in units.names]
    # A layer group's floor is kept whatever its scores are, so it stands above the order.
    rest = [score[~top_mask(score, floor)] for score, floor in zip(flat, floors, strict=True)]
    groups = torch.cat([torch.full((len(score),), index) for index, score in enumerate(rest)])
    groups = groups[torch.cat(rest).sort(descending=True, stable=True).indices]

    def counts(first: int) -> list[int]:
        taken = groups[:first].bincount(minlength=len(floors)).tolist()
        return [floor + more for floor, more in zip(floors, taken, strict=True)]

    low, high = 0, len(groups)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(counts(middle)) <= target + SLACK else (low, middle - 1)
    kept = units.named(apportion(counts(low), target, floors, units.sizes, cost))
    return {name: top_mask(scores[name], kept[name]) for name in units.names}

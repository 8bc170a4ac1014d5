"""Sentences on how a search for rates has gone: ended off its budget or where no rate moves, or thrown on the way."""

import math
from collections.abc import Sequence

from harp.sparsity import Budget, Counts, Units

# Searches that reach their target end within 2 % of it. At 5 % below, settle was seen to cost 40 points, most of them
# by batch-norm statistics of the network before; fine-tuning brings them back.
SLACK = 0.02
NAMED = 3
THROWN = math.log(2)
"""how far a rate's logit rises at once where something throws it; learning moves it by some hundredths a step"""


def off_budget(units: Units, budget: Budget, density: float, stood: Counts, settled: Counts) -> list[str]:
    """A sentence where the rates' `density`, and the counts that `stood`, cost more or less than the budget allows."""
    cost = units.cost(budget.of)
    counted = cost([stood[name] for name in units.names]) / budget.count(cost(units.sizes))
    # Off by both measures: where groups are small, whole units cost more than the rates that they are rounded from.
    low, high = sorted((density / budget.keep, counted))
    share = low if low > 1 else min(high, 1.0)
    begun = f"the chosen rates stood at {share:.2f} times the budget; settle "
    if share > 1 + SLACK:
        gone = sum(max(0, stood[name] - settled[name]) for name in units.names)
        return [f"{begun}cut the masks to it, by {gone:,} {units.kind} that the network was trained with"]
    if share < 1 - SLACK:
        come = sum(max(0, settled[name] - stood[name]) for name in units.names)
        begun += f"filled it up with {come:,} {units.kind} that the network was trained without"
        return [f"{begun}, so judge it after fine-tuning; a smaller gamma ends nearer, mode exact at the budget"]
    return []


def at_the_floor(units: Units, budget: Budget, rates: Sequence[float]) -> list[str]:
    """A sentence where groups keep no more than the least, to within a tenth, or a hundredth of their fair share."""
    low = max(1.1 * budget.least, 0.01 * budget.keep)
    # With a floor near `keep` itself every layer group stands there, by the user's wish.
    groups = [name for name, rate in zip(units.names, rates, strict=True) if rate <= low < budget.keep]
    if not groups:
        return []
    begun = f"{len(groups)} of {len(units.names)} learned rates collapsed to {low:.2g} or less, where they hardly move"
    return [f"{begun}, so that little passes through {_named(groups)}; a smaller gamma or a larger floor holds them up"]


def thrown(units: Units, steps: Sequence[int]) -> list[str]:
    """A sentence where rates were thrown up by `THROWN` or more: `steps` has the first such step, -1 for none."""
    groups = {name: step for name, step in zip(units.names, steps, strict=True) if step >= 0}
    if not groups:
        return []
    begun = f"step {min(groups.values())} threw up the learned rates of {_named(list(groups))}"
    why = "channels that keep nothing often do, whose gradients under a batch norm are hundreds of times too large"
    return [f"{begun}; {why}; where the search does not come back from that, gradients clipped to 1 (clip) help"]


def _named(groups: Sequence[str]) -> str:
    return ", ".join(groups[:NAMED]) + (f" and {len(groups) - NAMED} more" if len(groups) > NAMED else "")

"""A share of the network becomes integers, one per layer group of units, that meet the budget exactly."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy

from harp.config.values import Measure
from harp.errors import HarpError
from harp.sparsity.costs import Cost, Vector

Counts = dict[str, int]

Family = Callable[[float], Vector]
"""A rule for sharing out: given one number, the share of its units that each layer group keeps, in [0, 1].

The number says how much is kept in all, from the least there is at -100 to everything at 100; as it rises no share
falls. The rule says how that is spread over the groups. `solve` finds the number at which the shares cost what a budget
allows.
"""

SLACK = 1e-6  # prices are sums of integers in float64, off by far less, and no unit costs as little


@dataclass(frozen=True)
class Budget:
    """How much may stay: the share `keep` in (0, 1] of the parameters, of the multiply-accumulates (macs), or of the
    time that one image takes in the engine (latency, in processor cycles as its planner reckons them).

    No group keeps less than the share `floor * keep` of its units, nor less than one. HARP calls the floor alpha and
    sets it to 0.1 (section 3). `whole` is the price of a larger network, where this is a budget of what is left of one
    (`within`). Raises `HarpError` for values outside these ranges.
    """

    keep: float
    of: Measure = "parameters"
    floor: float = 0.1
    whole: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise HarpError(f"keep: expected a share above 0 and at most 1 (0.01 keeps 1 %), got {self.keep!r}")
        if self.of not in get_args(Measure):
            raise HarpError(f"of: expected {', '.join(get_args(Measure))}, got {self.of!r}")
        if not 0 <= self.floor <= 1:
            raise HarpError(f"floor: expected a share from 0 to 1, got {self.floor!r}")

    @property
    def least(self) -> float:
        """The smallest share a layer group may keep: HARP's k_min."""
        return self.floor * self.keep

    @property
    def unit(self) -> str:
        """What is counted, in the plural."""
        return "cycles" if self.of == "latency" else self.of

    def count(self, total: float) -> int:
        """The integer promise: `round(keep * total)`."""
        return round(self.keep * total)

    def within(self, whole: float, left: float) -> "Budget":
        """The same promise, a share of the price `whole`, as a budget of what other pruning has `left` of that.

        Raises `HarpError` where that is less than the promise.
        """
        if self.count(whole) > left:
            raise HarpError(
                f"keep: {self.keep:g} of the whole network's {whole:,.0f} {self.unit} is {self.count(whole):,}, and "
                f"what was pruned before left only {left:,.0f}; expected a smaller share"
            )
        return replace(self, keep=self.count(whole) / left, whole=whole)

    def floors(self, sizes: Sequence[int], cost: Cost | None = None) -> list[int]:
        """The fewest units each layer group keeps; raises `HarpError` where they cost more than the budget.

        Without a `cost` every unit costs 1.
        """
        cost = cost or _plain(sizes)
        total, least = cost(sizes), _floors(self.least, sizes)
        if cost(least) > self.count(total):
            reachable = self._smallest(sizes, cost)
            digits = len(str(round(total))) + 2
            whole = total if self.whole is None else self.whole
            share = math.floor(reachable / whole * 10**digits) / 10**digits  # rounded up, it could raise a floor
            raise HarpError(
                f"keep: {self.keep * total / whole:g} of {whole:,.0f} {self.unit} is {self.count(total):,}, less than "
                f"the floors of {len(sizes)} layers need; the smallest reachable keep is {share:.15g} "
                f"({reachable:,} {self.unit})"
            )
        return least

    def _smallest(self, sizes: Sequence[int], cost: Cost) -> int:
        # Floors grow with the count, so no count between one that fails and the price of its floors can do.
        total = cost(sizes)
        count = math.ceil(cost([1] * len(sizes)))
        if self.floor == 1 and cost.quadratic is None:
            # Every layer group at exactly the same share, and each share whole.
            return math.ceil(cost([size // math.gcd(*sizes) for size in sizes]))
        while (needed := math.ceil(cost(_floors(self.floor * count / total, sizes)))) > count:
            count = needed
        return count


def _plain(groups: Sequence[float]) -> Cost:
    return Cost(0.0, numpy.ones(len(groups)))


def _floors(least: float, sizes: Sequence[int]) -> list[int]:
    return [max(1, math.ceil(least * size - 1e-9)) for size in sizes]


def solve(family: Family, sizes: Sequence[int], floors: Sequence[int], cost: Cost, target: float) -> float:
    """The largest number whose shares, floors applied, cost no more than `target`; by bisection from -100 to 100."""
    low, high = -100.0, 100.0
    for _ in range(64):
        middle = (low + high) / 2
        dear = cost(_units(family, middle, sizes, floors)) > target + SLACK
        low, high = (low, middle) if dear else (middle, high)
    return low


def _units(family: Family, at: float, sizes: Sequence[int], floors: Sequence[int]) -> Vector:
    return numpy.clip(family(at) * numpy.asarray(sizes, dtype=numpy.float64), floors, sizes)


def share_out(family: Family, sizes: Sequence[int], floors: Sequence[int], cost: Cost, target: int) -> list[int]:
    """Units for each layer group, by the family's shares, whose price meets `target`; see `apportion`."""
    at = solve(family, sizes, floors, cost, target)
    return apportion(_units(family, at, sizes, floors).tolist(), target, floors, sizes, cost)


def apportion(
    shares: Sequence[float], target: int, floors: Sequence[int], caps: Sequence[int], cost: Cost | None = None
) -> list[int]:
    """Integers near `shares`, each within its floor and cap, of price `target`: the largest remainder rounds up.

    Where all units have the same price the target is met exactly; otherwise the price is at most `target`, and no group
    that could still grow has a unit that fits into what is left. Without a `cost` every unit costs 1. Of equal
    remainders the earlier index wins. Raises `ValueError` where floors and caps do not admit the target.
    """
    cost = cost or _plain(shares)
    if not cost(floors) <= target <= cost(caps) or any(f > c for f, c in zip(floors, caps, strict=True)):
        raise ValueError(f"no integers within the floors and caps cost {target}")
    # A share that is an integer may come out of float arithmetic a little below it.
    counts = [min(max(math.floor(s + 1e-9), f), c) for s, f, c in zip(shares, floors, caps, strict=True)]
    spent = cost(counts)
    while spent > target:
        movable = [i for i, count in enumerate(counts) if count > floors[i]]
        for i in sorted(movable, key=lambda i: shares[i] - counts[i]):
            if spent > target:
                spent += cost.step(counts, i, -1)
                counts[i] -= 1
    while True:
        prices = {i: cost.step(counts, i, 1) for i, count in enumerate(counts) if count < caps[i]}
        movable = [i for i, price in prices.items() if price > 0]
        if not movable or target - spent < max(prices.values()) - SLACK:
            break
        for i in sorted(movable, key=lambda i: counts[i] - shares[i]):
            price = cost.step(counts, i, 1)
            if price <= target - spent + SLACK:
                counts[i] += 1
                spent += price
    return _filled(counts, shares, caps, cost, target - spent)


def _filled(counts: list[int], shares: Sequence[float], caps: Sequence[int], cost: Cost, rest: float) -> list[int]:
    # What is left buys no unit of the dearest group; of the others those grow that lie furthest below their share.
    while True:
        prices = cost.nexts(counts)
        fits = [i for i, price in enumerate(prices) if counts[i] < caps[i] and 0 < price <= rest + SLACK]
        if not fits:
            return counts
        i = min(fits, key=lambda i: (counts[i] - shares[i]) / max(shares[i], 1.0))
        # Thousands of cheap units may fit; a share of them at a time ends in as many steps as that has digits.
        some = min(caps[i] - counts[i], max(1, int(rest / prices[i]) // (2 * len(fits))))
        change = some if cost.step(counts, i, some) <= rest + SLACK else 1
        rest -= cost.step(counts, i, change)
        counts[i] += change

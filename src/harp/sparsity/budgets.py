"""A share of the weights becomes integers, one per site, that sum to the budget exactly."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harp.errors import HarpError
from harp.sparsity.sites import Sites

Counts = dict[str, int]


@dataclass(frozen=True)
class Budget:
    """How many weights may stay: the share `keep` in (0, 1]; no site below the share `floor * keep`, nor below one.

    Raises `HarpError` for values outside these ranges. HARP calls the floor alpha and sets it to 0.1 (section 3).
    """

    keep: float
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise HarpError(f"keep: expected a share above 0 and at most 1 (0.01 keeps 1 %), got {self.keep!r}")
        if not 0 <= self.floor <= 1:
            raise HarpError(f"floor: expected a share from 0 to 1, got {self.floor!r}")

    @property
    def least(self) -> float:
        """The smallest share a site may keep: HARP's k_min."""
        return self.floor * self.keep

    def count(self, total: int) -> int:
        """The integer promise: `round(keep * total)`."""
        return round(self.keep * total)

    def floors(self, sizes: Sequence[int]) -> list[int]:
        """The fewest weights each site keeps; raises `HarpError` where they exceed the budget."""
        total, least = sum(sizes), self._floors(sizes)
        if sum(least) > self.count(total):
            reachable = self._smallest(sizes)
            digits = len(str(total)) + 2
            share = math.floor(reachable / total * 10**digits) / 10**digits  # rounded up, it could raise a floor
            raise HarpError(
                f"keep: {self.keep:g} of {total:,} weights is {self.count(total)}, less than the floors of "
                f"{len(sizes)} layers need; the smallest reachable keep is {share:.15g} ({reachable} weights)"
            )
        return least

    def _floors(self, sizes: Sequence[int]) -> list[int]:
        return [max(1, math.ceil(self.least * size - 1e-9)) for size in sizes]

    def _smallest(self, sizes: Sequence[int]) -> int:
        # Floors grow with the count, so no count between one that fails and the sum of its floors can do.
        total, count = sum(sizes), len(sizes)
        if self.floor == 1:
            return total // math.gcd(*sizes)  # every layer at exactly the same share, and each share whole
        while (needed := sum(Budget(count / total, self.floor)._floors(sizes))) > count:
            count = needed
        return count


def apportion(shares: Sequence[float], total: int, floors: Sequence[int], caps: Sequence[int]) -> list[int]:
    """Integers near `shares` that sum to `total`, each within its floor and cap: the largest remainder rounds up.

    Of equal remainders the earlier index wins. Raises `ValueError` where floors and caps do not admit the total.
    """
    if not sum(floors) <= total <= sum(caps) or any(f > c for f, c in zip(floors, caps, strict=True)):
        raise ValueError(f"no integers within the floors and caps sum to {total}")
    counts = [min(max(math.floor(s), f), c) for s, f, c in zip(shares, floors, caps, strict=True)]
    while (missing := total - sum(counts)) != 0:
        sign = 1 if missing > 0 else -1
        bounds = caps if sign > 0 else floors
        movable = [i for i, count in enumerate(counts) if count != bounds[i]]
        movable.sort(key=lambda i: sign * (counts[i] - shares[i]))
        for i in movable[: abs(missing)]:
            counts[i] += sign
    return counts


def uniform(sites: Sites, budget: Budget) -> Counts:
    """The same share in every site."""
    sizes = [site.size for site in sites]
    total = budget.count(sum(sizes))
    shares = [total * size / sum(sizes) for size in sizes]
    return _named(sites, apportion(shares, total, budget.floors(sizes), sizes))


def from_rates(sites: Sites, budget: Budget, rates: Mapping[str, float]) -> Counts:
    """The counts nearest to learned `rates` (site name -> share) that meet the budget exactly.

    All rates move by one shared shift of their logits above the floor, k = least + (1 - least) sigmoid(r + shift),
    so their order stays; then the largest remainder rounds. Raises `HarpError` for a rate that is NaN.
    """
    broken = [name for name, rate in rates.items() if math.isnan(rate)]
    if broken:
        raise HarpError(f"the keep rate of {broken[0]} is NaN")
    sizes = [site.size for site in sites]
    total, least = budget.count(sum(sizes)), budget.least
    floors = budget.floors(sizes)
    logits = [_logit((rates[site.name] - least) / max(1 - least, 1e-12)) for site in sites]

    def shares(shift: float) -> list[float]:
        raised = [least + (1 - least) / (1 + math.exp(-min(max(r + shift, -60), 60))) for r in logits]
        return [max(float(f), k * n) for f, k, n in zip(floors, raised, sizes, strict=True)]

    low, high = -100.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(shares(middle)) > total else (middle, high)
    return _named(sites, apportion(shares(low), total, floors, sizes))


def _logit(share: float) -> float:
    # A rate stored as float32 can round to exactly 0 or 1; 1e-7 is its resolution there.
    share = min(max(share, 1e-7), 1 - 1e-7)
    return math.log(share / (1 - share))


def _named(sites: Sites, counts: Sequence[int]) -> Counts:
    return {site.name: count for site, count in zip(sites, counts, strict=True)}

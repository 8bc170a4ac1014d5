"""Rules for sharing a budget out over the layer groups: uniform, ERK, LAMP, ideal gas, ..., and rates from a file.

Each rule is a family of shares with one argument, and the budget fixes that argument. So every rule works for every
network, density and price.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor

from harp.config.documents import read_yaml
from harp.errors import HarpError, choices
from harp.files import parse_json
from harp.registry import Registry
from harp.sparsity.budgets import Budget, Counts, Family, share_out, solve
from harp.sparsity.costs import Vector
from harp.sparsity.units import Units

ALLOCATIONS: Registry[Callable[[Units], Family]] = Registry("allocation", "allocations")


@ALLOCATIONS.register("uniform")
def uniform(units: Units) -> Family:
    """The same share in every layer group."""
    return lambda at: numpy.full(len(units.sizes), _sigmoid(at))


@ALLOCATIONS.register("erk")
def erk(units: Units) -> Family:
    """Shares in proportion to sum over product of a weight's dimensions, 1 at most (Evci et al., ICML 2020)."""
    ratios = numpy.array(units.dimensions()) / numpy.array(units.weight_counts())
    return lambda at: numpy.minimum(1.0, math.exp(at) * ratios)


@ALLOCATIONS.register("ideal-gas")
def ideal_gas(units: Units) -> Family:
    """1 / (1 + F n) of a layer group that decides over n weights, F the same for all (Chen et al., ICLR 2022)."""
    counts = numpy.array(units.weight_counts(), dtype=numpy.float64)
    return lambda at: 1 / (1 + math.exp(-at) * counts)


@ALLOCATIONS.register("lamp")
def lamp(units: Units) -> Family:
    """What one threshold on LAMP scores leaves of each layer group (Lee et al., ICLR 2021).

    The score of a unit is its squared magnitude over the sum of those in its layer group that are not smaller.
    """
    scores = []
    for score in units.first_scores().values():
        squares = numpy.sort(score.double().flatten().square().cpu().numpy())
        scores.append(squares / numpy.maximum(squares[::-1].cumsum()[::-1], 1e-300))

    def family(at: float) -> Vector:
        threshold = math.exp(-at)
        return numpy.array([1 - numpy.searchsorted(s, threshold) / len(s) for s in scores])

    return family


@ALLOCATIONS.register("global")
def all_alike(units: Units) -> Family:
    """What one threshold on the magnitudes of all units leaves of each layer group (Han et al., NeurIPS 2015)."""
    return above_threshold(units.magnitudes())


@ALLOCATIONS.register("kept")
def as_kept(units: Units) -> Family:
    """As it is shared out already: each layer group's share of units that are not zero, for a network pruned before."""
    sizes = units.magnitudes()
    return from_rates(units, 0.0, {name: float((size != 0).double().mean()) for name, size in sizes.items()})


def above_threshold(sizes: Mapping[str, Tensor]) -> Family:
    """The share of each of `sizes`, by layer group, that is no smaller than one threshold, which is the argument."""
    ordered = [numpy.sort(size.detach().double().flatten().cpu().numpy()) for size in sizes.values()]

    def family(at: float) -> Vector:
        threshold = math.exp(-at)
        return numpy.array([1 - numpy.searchsorted(s, threshold) / len(s) for s in ordered])

    return family


def from_rates(units: Units, least: float, rates: Mapping[str, float]) -> Family:
    """The given share of each layer group, all moved by one shift of their logits above `least`; their order stays.

    k = least + (1 - least) sigmoid(r + shift). Raises `HarpError` for a rate that is NaN.
    """
    broken = [name for name in units.names if math.isnan(rates[name])]
    if broken:
        raise HarpError(f"the keep rate of {broken[0]} is NaN")
    shares = (numpy.array([rates[name] for name in units.names]) - least) / max(1 - least, 1e-12)
    # A rate stored as float32 can round to exactly 0 or 1; 1e-7 is its resolution there.
    shares = numpy.clip(shares, 1e-7, 1 - 1e-7)
    return from_logits(numpy.log(shares / (1 - shares)), least)


def from_logits(logits: Vector, least: float) -> Family:
    """least + (1 - least) sigmoid(logits + shift), the shift being the argument."""
    return lambda at: least + (1 - least) / (1 + numpy.exp(-numpy.clip(logits + at, -60, 60)))


def allocation(name: str, units: Units) -> Family:
    """The family that `name` means for `units`: a registered one, or rates from a YAML or JSON file of that path.

    A file maps the name of each group to its share, or is the `allocation.json` of a run. Raises `HarpError` for a name
    that is neither, and for a file that does not give exactly the layer groups of `units` shares above 0 and at most 1.
    """
    if name in ALLOCATIONS:
        return ALLOCATIONS[name](units)
    if not name.endswith((".json", ".yaml", ".yml")):
        raise HarpError(f"no allocation {name!r}; {choices(name, ALLOCATIONS)}; or a .yaml or .json file of rates")
    return from_rates(units, 0.0, _read(Path(name), units))


def _read(path: Path, units: Units) -> dict[str, float]:
    if not path.exists():
        raise HarpError(f"no file {path} to take rates from")
    try:
        value: Any = parse_json(path.read_bytes()) if path.suffix == ".json" else read_yaml(path)
        if isinstance(value, dict) and isinstance(value.get("sites"), list):
            value = {site["name"]: site["kept"] / site["size"] for site in value["sites"]}
        rates = {str(key): float(rate) for key, rate in value.items()}
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError),
        *(ZeroDivisionError, OverflowError, RecursionError),
    ) as error:
        raise HarpError(f"{path} does not map names to rates: {error}") from None
    for key in [*rates, *units.names]:
        if key not in units.names:
            raise HarpError(f"{path} has a rate for {key!r}, which is no layer group here; {choices(key, units.names)}")
        if key not in rates:
            raise HarpError(f"{path} has no rate for {key}; expected one for each of {len(units.names)} layer groups")
        if not 0 < rates[key] <= 1:
            raise HarpError(f"{path}: the rate of {key} is {rates[key]!r}; expected a share above 0 and at most 1")
    return rates


def allot(units: Units, budget: Budget, family: Family) -> Counts:
    """How many units each group keeps under the family's shares; their price meets the budget (see `apportion`)."""
    cost = units.cost(budget.of)
    floors = budget.floors(units.sizes, cost)
    return units.named(share_out(family, units.sizes, floors, cost, budget.count(cost(units.sizes))))


def rates_at(units: Units, budget: Budget, family: Family) -> Vector:
    """The family's shares, as real numbers, where they cost what the budget allows; shape [groups]."""
    cost = units.cost(budget.of)
    zeros = [0] * len(units.sizes)
    return family(solve(family, units.sizes, zeros, cost, budget.keep * cost(units.sizes)))


def _sigmoid(at: float) -> float:
    return 1 / (1 + math.exp(-at))

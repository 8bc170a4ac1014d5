"""What pruning would leave of a network, counted in the network that is left."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from harp import models
from harp.config import Recipe
from harp.export import timed
from harp.pipeline.limits import check_width
from harp.sparsity import (
    Budget,
    ChannelUnits,
    Counts,
    Group,
    Sites,
    Units,
    allocation,
    allot,
    find_frozen,
    find_sites,
    find_units,
    find_weights,
    remove,
    trace_macs,
)

Macs = Mapping[str | None, int]


@dataclass(frozen=True)
class Plan:
    """One network under one budget, shared out by one rule.

    `kept`: units by group. `left`: weights after pruning, by name. `before`, `after`: MACs per image by name of the
    weight, None for products without one.
    """

    title: str
    model: nn.Module
    sites: Sites
    units: Units
    budget: Budget
    kept: Counts
    left: Counts
    before: Macs
    after: Macs
    notes: tuple[str, ...]

    @property
    def price(self) -> tuple[int, int, int]:
        """In the budget's unit: what all costs, what may be spent, what is spent."""
        cost = self.units.cost(self.budget.of)
        total = cost(self.units.sizes)
        return round(total), self.budget.count(total), round(cost([self.kept[name] for name in self.units.names]))

    def macs(self, names: Iterable[str | None]) -> tuple[int, int]:
        """MACs before and after of the weights of these names together."""
        names = list(names)
        return sum(self.before.get(name, 0) for name in names), sum(self.after.get(name, 0) for name in names)

    def makers(self, group: Group) -> list[str]:
        """The weights whose outputs the units of `group` are; norms, biases and tokens lie between and make nothing."""
        read = {(part.name, part.axis) for part in group.consumers}
        made = [part.name for part in group.members if (part.name, part.axis) not in read]
        return [name for name in made if name in self.weights]

    @cached_property
    def weights(self) -> set[str]:
        """The names of all weights, selected or not."""
        return {site.name for site in find_weights(self.model)}


def make_plan(recipe: Recipe, shared_by: str, *, classes: int, channels: int, size: int) -> Plan:
    """The plan for the recipe's network as it is built, its budget shared out by the allocation `shared_by`.

    Raises `HarpError` for all that pruning would refuse.
    """
    wanted, prune = recipe.model, recipe.prune
    check_width(wanted.name, wanted.width, classes=classes, channels=channels, size=size)
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        model = models.build(
            wanted.name, classes=classes, channels=channels, size=size, width=wanted.width, output=wanted.output
        )
    example = torch.zeros(1, channels, size, size)
    sites = find_sites(model, wanted.include, wanted.exclude)
    units = find_units(model, example, prune.granularity, sites)
    budget = timed(units, model, example, Budget(prune.keep, prune.measure, prune.floor))
    kept = allot(units, budget, allocation(shared_by, units))
    before = trace_macs(model, example)
    frozen = find_frozen(model, wanted.include, wanted.exclude)
    left, after = _left(model, example, units, kept, before)
    title = f"{wanted.name}, images {channels}x{size}x{size}, {classes} classes; {units.kind} shared out: {shared_by}"
    notes = tuple(_notes(shared_by, sites, frozen, before))
    return Plan(title, model, sites, units, budget, kept, left, before, after, notes)


def few(names: Sequence[str], between: str) -> str:
    """The first two names and how many more there are."""
    more = [f"and {len(names) - 2} more"] if len(names) > 2 else []
    return between.join([*names[:2], *more])


def _left(model: nn.Module, example: Tensor, units: Units, kept: Counts, before: Macs) -> tuple[Counts, Macs]:
    """Weights and MACs by name after pruning; channels are really removed from a copy, and the copy is counted."""
    if not isinstance(units, ChannelUnits):
        whole = zip(units.names, units.weight_counts(), units.sizes, strict=True)
        left = {name: kept[name] * weights // size for name, weights, size in whole}
        used: Macs = {site.name: before.get(site.name, 0) * left[site.name] // site.size for site in units.sites}
        return left, {**before, **used}
    masks = {group.name: torch.arange(group.size) < kept[group.name] for group in units.groups}
    small = remove(model, units.groups, masks)
    sizes = {name: param.numel() for name, param in small.named_parameters(remove_duplicate=False)}
    return sizes, trace_macs(small, example)


def _notes(shared_by: str, sites: Sites, frozen: Sequence[str], macs: Macs) -> Iterator[str]:
    if frozen:
        are = "is" if len(frozen) == 1 else "are"
        yield f"{few(frozen, ', ')} {are} frozen (requires_grad False) and not pruned; `include` takes full names"
    idle = [site.name for site in sites if not macs.get(site.name)]
    if idle:
        yield (
            f"no MACs were traced to {few(idle, ', ')}: unused in the forward pass, or used through a computed copy; "
            "a budget of macs takes them as free"
        )
    if shared_by in ("lamp", "global"):
        yield f"{shared_by} goes by the magnitudes of the weights, here those the network is built with"

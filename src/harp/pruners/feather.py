"""Feather: dense weights that train behind a soft threshold, which rises till the budget is met (BMVC 2023)."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from harp.ambient import pinned
from harp.config.values import Number, Text
from harp.errors import HarpError
from harp.pruners.base import METHODS, SearchWarning, like
from harp.pruners.method import Course, Moment, Options, Role
from harp.pruners.reparam import Reparam
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Masks, Sites, Units, allocation, allot, top_mask, units_of

LOW = 0.05  # below this share the published code lets only half a pruned weight's gradient pass


class FeatherOptions(Options):
    """What `feather` can be told."""

    start: Text = "lamp"
    """how layers share the budget in the end: lamp, erk, uniform, ideal-gas, global, kept, or a file, such as a run's
    allocation.json"""
    until: Annotated[float, Number, Field(gt=0, le=1)] = 0.5
    """the part of the stage over which density falls to the budget, along a cubic"""
    passes: Annotated[float, Number, Field(ge=0, le=1)] | None = None
    """share of its gradient that a pruned weight learns by; none: 0.5 for budgets below 5 %, else 1"""


@METHODS.register("feather")
class Feather(Reparam):
    """Feather: dense weights behind a threshold, through which all go on learning (Glentis Georgoulakis et al., 2023).

    What the network computes with is w (1 - (t / |w|)^3)^(1/3), and 0 up to the threshold t: continuous there, nearly w
    above it (BMVC 2023). The gradient passes straight through, a share `passes` of it to what is 0. The published
    threshold is one for the network; here each layer group has its own, half-way between the last unit that its count
    lets stay and the next, so that the counts of any allocation are met exactly at every step, and all kinds of units
    can be pruned. Train on afterwards under the masks. Raises `HarpError` for a budget below the floors, a frozen
    weight, and without a `course` that knows its steps.
    """

    takes = FeatherOptions

    @pinned()
    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: FeatherOptions | None = None,
        course: Course | None = None,
    ):
        self.units, self.budget = units_of(what), budget
        super().__init__(self.units.sites)
        if course is None or not course.steps:
            raise HarpError("feather goes by the stage's steps: it needs course=harp.Course(steps_per_epoch, steps)")
        for site in self.sites:
            if not site.param.requires_grad:
                raise HarpError(f"{site.name} is frozen, and feather trains it; exclude or unfreeze it")
        self.options, self.course = options or FeatherOptions(), course
        usual = 0.5 if budget.keep < LOW else 1.0
        self.passes = usual if self.options.passes is None else self.options.passes
        self.last = allot(self.units, budget, allocation(self.options.start, self.units))
        self.dense = {site.name: nn.Parameter(site.param.detach().clone()) for site in self.sites}
        self._step = 0

    def trainables(self) -> dict[str, Role]:
        return {"weights": Role(list(self.dense.values()))}

    def counts(self, step: int) -> Counts:
        """How many units each layer group keeps after `step`."""
        left = max(0.0, 1 - step / (self.options.until * (self.course.steps or 1))) ** 3
        sizes = zip(self.units.names, self.units.sizes, strict=True)
        return {name: self.last[name] + round(left * (size - self.last[name])) for name, size in sizes}

    def weights(self) -> list[Tensor]:
        return self._behind(self._masks(self.counts(self._step)))

    def push(self, moment: Moment) -> None:
        self._step = moment.step
        super().push(moment)

    @pinned()
    def settle(self) -> Masks:
        self.check_untouched(self.weights)
        for note in self.notes():
            warnings.warn(SearchWarning(note), stacklevel=3)
        return self._settle()

    @contextmanager
    def settled(self) -> Iterator[None]:
        self.check_untouched(self.weights)
        with self.lent():
            self._settle()
            yield

    def _settle(self) -> Masks:
        masks = self._masks(self.last)
        # A product with a negative weight leaves -0; what is pruned is plain 0.
        self.write([weight.masked_fill(weight == 0, 0) for weight in self._behind(masks)], "settled")
        return Masks(masks)

    def _masks(self, counts: Counts) -> dict[str, Tensor]:
        return {name: top_mask(size, counts[name]) for name, size in self._sizes().items()}

    def _sizes(self) -> dict[str, Tensor]:
        """Magnitudes of the units of the dense weights, by layer group, which the sites themselves do not hold."""
        with self.lent(), torch.no_grad():
            for site in self.sites:
                site.param.copy_(self.dense[site.name])
            return {name: size.clone() for name, size in self.units.magnitudes().items()}

    def _behind(self, masks: Mapping[str, Tensor]) -> list[Tensor]:
        """The effective weights under `masks`, each layer group's threshold lying between what stays and what goes."""
        with torch.no_grad():
            factors = {name: shrunk(size, masks[name]) for name, size in self._sizes().items()}
            ones = {name: torch.ones_like(weight) for name, weight in self.dense.items()}
            factor = self.units.effective(ones, factors)
            passing = self.units.effective(
                ones, {name: torch.where(mask, 1.0, self.passes) for name, mask in masks.items()}
            )
        triples = zip(self.dense.values(), factor, passing, strict=True)
        return [_Behind.apply(*triple) for triple in triples]  # type: ignore[no-untyped-call]

    def record(self, moment: Moment) -> dict[str, Any]:
        counts, cost = self.counts(moment.step), self.units.cost(self.budget.of)
        return {"density": cost([counts[name] for name in self.units.names]) / cost(self.units.sizes)}

    def notes(self) -> list[str]:
        if self.counts(self._step) == self.last:
            return []
        end = math.ceil(self.options.until * (self.course.steps or 1))
        begun = f"the state that was kept is of step {self._step}, when more weights were there than the budget has"
        return [f"{begun}; it is met from step {end} on, so a smaller until, or selection last, helps"]

    def state_dict(self) -> Tree:
        return {"dense": {name: weight.detach() for name, weight in self.dense.items()}, "step": self._step}

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        dense = like(self.dense, state["dense"])
        for name, weight in self.dense.items():
            weight.copy_(dense[name])
        self._step = state["step"]
        super().load_state_dict(state)


def shrunk(size: Tensor, mask: Tensor) -> Tensor:
    """By how much units of magnitudes `size` shrink behind a threshold between those in `mask` and the others.

    (1 - (t / size)^3)^(1/3) within the mask and 0 outside; t is the mean of the smallest magnitude that stays and the
    largest that goes, and 0 where none goes.
    """
    if bool(mask.all()):
        return torch.ones_like(size)
    threshold = (size[mask].min() + size[~mask].max()) / 2
    ratio = torch.where(mask, threshold / size, torch.ones_like(size))
    return (1 - ratio**3).clamp(min=0).pow(1 / 3)


class _Behind(torch.autograd.Function):
    """The weight times a factor; its gradient is that of the product times another."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factor: Tensor, passing: Tensor) -> Tensor:
        ctx.save_for_backward(passing)
        return weight * factor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (passing,) = ctx.saved_tensors
        return grads[0] * passing, None, None

"""TwinRep: every weight a product of two that train, under masks cut once (Li et al., AAAI 2023)."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.clock import Step
from harp.config.values import Span
from harp.errors import HarpError
from harp.pruners.base import METHODS, SearchWarning, like
from harp.pruners.method import Course, Moment, Options, Role
from harp.pruners.reparam import Reparam
from harp.runs import Tree
from harp.sparsity import Budget, ChannelUnits, Masks, Site, Sites, Units, above_threshold, allot, top_mask, units_of


class TwinRepOptions(Options):
    """What `twinrep` can be told."""

    after: Span = "9ep"
    """when the masks are cut, once and for good, such as 9ep or 900it"""
    start: Literal["drawn", "scaled"] = "drawn"
    """factors to start from: drawn, as published, their products far smaller than usual weights; or drawn and scaled
    to products as large as the weights that the network is built with, for networks without batch norm"""


@METHODS.register("twinrep")
class TwinRep(Reparam):
    """TwinRep: trained from scratch, every weight a product of two, cut once (Li et al., AAAI 2023).

    W = U V M. Weight decay on both factors is an L1 penalty on their product: (U^2 + V^2) / 2 is |W| where they are
    equally large. M is 1 until `after`, then keeps the largest |U V| of the whole network. The paper trains 100 epochs
    with a weight decay of 2e-4. Its structured form counts filters of single layers; here any units do (METHODS 9.11):
    each has the root mean square of its weights, a channel of those that make it in all layers that are tied, and the
    budget is counted in weights or multiply-accumulates of what is left. Where channels are pruned all prunable weights
    are products, not only those that read a channel. A stage that ends before `after` is cut at its end. Raises
    `HarpError` for a budget below the floors, for a frozen weight, and without a `course`.
    """

    takes = TwinRepOptions
    begins = "untrained"

    @pinned()
    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: TwinRepOptions | None = None,
        course: Course | None = None,
    ):
        self.units, self.budget = units_of(what), budget
        wide = self.units.priced if isinstance(self.units, ChannelUnits) else ()
        super().__init__(tuple({site.name: site for site in (*wide, *self.units.sites)}.values()))
        if course is None:
            raise HarpError("twinrep goes by epochs: it needs course=harp.Course(steps_per_epoch)")
        for site in self.sites:
            if not site.param.requires_grad:
                raise HarpError(
                    f"{site.name} is frozen, and twinrep trains factors in its place; exclude or unfreeze it"
                )
        budget.floors(self.units.sizes, self.units.cost(budget.of))
        self.options, self.course = options or TwinRepOptions(), course
        self.after = Step.parse(self.options.after).steps(course.steps_per_epoch)
        self.u = {site.name: self._drawn(site, "u") for site in self.sites}
        self.v = {site.name: self._drawn(site, "v") for site in self.sites}
        if self.options.start == "scaled":
            self._scale()
        self._all = {name: torch.ones_like(size, dtype=torch.bool) for name, size in self.units.magnitudes().items()}
        self.chosen: dict[str, Tensor] | None = None

    def trainables(self) -> dict[str, Role]:
        return {"u": Role(list(self.u.values())), "v": Role(list(self.v.values()))}

    def weights(self) -> list[Tensor]:
        products = {name: u * self.v[name] for name, u in self.u.items()}
        left = self.units.effective(products, self._all if self.chosen is None else self.chosen)
        masked = {site.name: weight for site, weight in zip(self.units.sites, left, strict=True)}
        return [masked.get(name, product) for name, product in products.items()]

    def push(self, moment: Moment) -> None:
        super().push(moment)
        if self.chosen is None and moment.step >= self.after:
            self.chosen = self._cut()
            super().push(moment)

    @pinned()
    def settle(self) -> Masks:
        self.check_untouched(self.weights)
        for note in self.notes():
            warnings.warn(SearchWarning(note), stacklevel=3)
        self.chosen = self._settle()
        return Masks(self.chosen)

    @contextmanager
    def settled(self) -> Iterator[None]:
        self.check_untouched(self.weights)
        before = self.chosen
        with self.lent():
            try:
                self._settle()
                yield
            finally:
                self.chosen = before

    def _settle(self) -> dict[str, Tensor]:
        if self.chosen is None:
            self.write(self.weights(), "settled")
            self.chosen = self._cut()
        # A product with a negative weight leaves -0; what is pruned is plain 0.
        self.write([weight.masked_fill(weight == 0, 0) for weight in self.weights()], "settled")
        return self.chosen

    def _cut(self) -> dict[str, Tensor]:
        """The units of largest root mean square, bool by layer group, of what the sites hold now."""
        if isinstance(self.units, ChannelUnits):
            means = self.units.filter_means()
        else:
            sizes = self.units.magnitudes()
            counts = zip(self.units.names, self.units.weight_counts(), self.units.sizes, strict=True)
            means = {name: sizes[name] / math.sqrt(weights / size) for name, weights, size in counts}
        kept = allot(self.units, self.budget, above_threshold(means))
        return {name: top_mask(size, kept[name]) for name, size in means.items()}

    def _drawn(self, site: Site, factor: str) -> nn.Parameter:
        """Uniform numbers up to 1 / sqrt(fan_in), drawn on the CPU so that every device has the same."""
        bound = (site.size // site.param.shape[site.out_axis]) ** -0.5
        noise = self.course.noise("twinrep", factor, site.name)
        numbers = torch.empty(site.param.shape, device="cpu").uniform_(-bound, bound, generator=noise)
        return nn.Parameter(numbers.to(site.param))

    @torch.no_grad()
    def _scale(self) -> None:
        for site in self.sites:
            u, v = self.u[site.name], self.v[site.name]
            built, drawn = site.param.detach().norm(), (u * v).norm()
            if built > 0 and drawn > 0:
                for factor in (u, v):
                    factor.mul_((built / drawn).sqrt())

    def record(self, moment: Moment) -> dict[str, Any]:
        chosen = Masks(self._all if self.chosen is None else self.chosen)
        cost = self.units.cost(self.budget.of)
        return {"density": cost([chosen.counts[name] for name in self.units.names]) / cost(self.units.sizes)}

    def notes(self) -> list[str]:
        if self.chosen is not None:
            return []
        return [f"the masks were cut at the end: the state that was kept is from before after={self.options.after}"]

    def state_dict(self) -> Tree:
        latents = {"u": self.u, "v": self.v}
        state: Tree = {key: {name: param.detach() for name, param in each.items()} for key, each in latents.items()}
        return {**state, "chosen": self.chosen}

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        for own, key in ((self.u, "u"), (self.v, "v")):
            others = like(own, state[key])
            for name, param in own.items():
                param.copy_(others[name])
        chosen = None if state["chosen"] is None else like(self._all, state["chosen"])
        self.chosen = None if chosen is None else {n: chosen[n].to(mask.device) for n, mask in self._all.items()}
        super().load_state_dict(state)

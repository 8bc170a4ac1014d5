"""Training the weights themselves under masks that the method moves as it goes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harp.pruners.base import like
from harp.pruners.masked import Masked
from harp.pruners.method import Moment
from harp.runs import Tree
from harp.sparsity import Budget, Masks, Sites, Units, units_of


class MovingMasks(Masked):
    """Weights train under masks over units, which a subclass sets by `move`; pruned weights are zero and learn nothing.

    `what` is pruned: sites, whose weights are the units, or units. `masks` are by site, `chosen` by layer group.
    """

    def __init__(self, what: Sites | Units, budget: Budget):
        self.units, self.budget = units_of(what), budget
        self.chosen = Masks(
            {name: torch.ones_like(score, dtype=torch.bool) for name, score in self.units.magnitudes().items()}
        )
        super().__init__(self.units.sites, self.units.by_site(self.chosen))

    def move(self, chosen: Mapping[str, Tensor]) -> None:
        """The masks are `chosen`, bool by layer group, from the next write on."""
        self.chosen = Masks(chosen)
        self.masks = self.units.by_site(self.chosen)

    def final(self) -> Mapping[str, Tensor]:
        """The masks, bool by layer group, that the method would end with now; they meet the budget."""
        return self.chosen

    def settle(self) -> Masks:
        self.move(self.final())
        self.write()
        return self.chosen

    @contextmanager
    def settled(self) -> Iterator[None]:
        before, chosen = [site.param.detach().clone() for site in self.sites], self.chosen
        try:
            self.settle()
            yield
        finally:
            self.move(chosen)
            with torch.no_grad():
                for site, weight in zip(self.sites, before, strict=True):
                    site.param.copy_(weight)

    def record(self, moment: Moment) -> dict[str, Any]:
        cost = self.units.cost(self.budget.of)
        kept = self.chosen.counts
        return {"density": cost([kept[name] for name in self.units.names]) / cost(self.units.sizes)}

    def state_dict(self) -> Tree:
        return {"chosen": dict(self.chosen)}

    def load_state_dict(self, state: Tree) -> None:
        chosen = like(self.chosen, state["chosen"])
        self.move({name: chosen[name].to(mask.device) for name, mask in self.chosen.items()})

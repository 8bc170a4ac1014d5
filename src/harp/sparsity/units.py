"""What is kept or removed as one: single weights, or channels that can only go together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy
import torch
from torch import Tensor

from harp.config.values import Granularity
from harp.errors import HarpError
from harp.sparsity.budgets import Budget
from harp.sparsity.costs import Cost, Latency
from harp.sparsity.masks import Masks
from harp.sparsity.sites import Sites, checked


class Units(ABC):
    """Units in layer groups, each with a keep rate of its own; masks over units become effective weights of the sites.

    `sites` are the parameters that masks change, `names` and `sizes` the layer groups'.
    """

    kind: Granularity

    def __init__(self, sites: Sites, names: Sequence[str], sizes: Sequence[int]):
        self.sites = sites
        self.names, self.sizes = tuple(names), tuple(sizes)

    @abstractmethod
    def cost(self, of: str) -> Cost:
        """The price of so many units in each layer group, in "parameters", in "macs" per image, or as "latency"."""

    def budget(self, asked: Budget) -> Budget:
        """What was asked for as a share of what all units cost, which a share of a latency is not."""
        return asked

    @abstractmethod
    def magnitudes(self) -> dict[str, Tensor]:
        """How large the units are now, by group: |weight|, or the 2-norm of a block or of what reads a channel."""

    @abstractmethod
    def first_scores(self) -> dict[str, Tensor]:
        """Scores of the units, by layer group, as the weights are now."""

    @abstractmethod
    def weight_counts(self) -> list[int]:
        """How many weights each layer group decides over."""

    @abstractmethod
    def dimensions(self) -> list[int]:
        """The lengths of all axes of the weights each layer group decides over, summed: ERK's numerator."""

    @abstractmethod
    def effective(self, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[Tensor]:
        """The weights that are left under masks (bool or float, by layer group), one tensor a site; differentiable."""

    def by_site(self, masks: Mapping[str, Tensor]) -> Masks:
        """Masks of the sites' own shapes: which weights are left under masks over units (bool, by layer group)."""
        whole = {site.name: torch.ones_like(site.param, dtype=torch.float32) for site in self.sites}
        left = self.effective(whole, masks)
        return Masks({site.name: weight != 0 for site, weight in zip(self.sites, left, strict=True)})

    def named(self, counts: Sequence[int]) -> dict[str, int]:
        return dict(zip(self.names, counts, strict=True))


class Weights(Units):
    """Every weight of every site a unit of its own, one layer group a site.

    `macs`: multiply-accumulates by site name, from `trace_macs`; only budgets of MACs need them. `latency` is what the
    weights cost in the engine (`harp.latency`), for budgets of that.
    """

    kind = "weights"

    def __init__(self, sites: Sites, macs: Mapping[str | None, int] | None = None):
        super().__init__(sites, [site.name for site in sites], [site.size for site in sites])
        self.macs = macs
        self.latency: Latency | None = None

    def budget(self, asked: Budget) -> Budget:
        if asked.of != "latency":
            return asked
        whole, left = self._timed().whole, self._timed().cost(self.sizes)
        if asked.keep * whole > left:
            raise HarpError(f"keep: {asked.keep:g} of the latency leaves all weights where they are; expected less")
        return asked.within(whole, left)

    def _timed(self) -> Latency:
        if self.latency is None:
            raise HarpError("a budget of latency needs prices: set the units' latency to what harp.latency gives")
        return self.latency

    def cost(self, of: str) -> Cost:
        if of == "parameters":
            return Cost(0.0, numpy.ones(len(self.sites)))
        if of == "latency":
            return self._timed().cost
        if self.macs is None:
            raise HarpError("a budget of macs needs the cost of each layer: Weights(sites, trace_macs(model, images))")
        return Cost(0.0, numpy.array([self.macs.get(site.name, 0) / site.size for site in self.sites]))

    def magnitudes(self) -> dict[str, Tensor]:
        return {site.name: site.param.detach().abs() for site in self.sites}

    def first_scores(self) -> dict[str, Tensor]:
        return {
            site.name: scaled(site.param.detach(), site.size // site.param.shape[site.out_axis]) for site in self.sites
        }

    def weight_counts(self) -> list[int]:
        return list(self.sizes)

    def dimensions(self) -> list[int]:
        return [sum(site.param.shape) for site in self.sites]

    def effective(self, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[Tensor]:
        return [dense[name] * masks[name] for name in self.names]


def units_of(what: Sites | Units) -> Units:
    """Units as they are, and for bare sites their single weights; raises `HarpError` for neither, and for no site."""
    if isinstance(what, Units):
        return what
    if not (sites := checked(what)):
        raise HarpError("no sites were given, so there is nothing to prune")
    return Weights(sites)


def scaled(weight: Tensor, fan_in: int) -> Tensor:
    """First scores: `weight` over its largest magnitude, times sqrt(6 / fan_in)."""
    # An all-zero weight has no order; dividing by 1 leaves its scores zero instead of NaN.
    largest = weight.abs().max()
    return math.sqrt(6 / fan_in) * weight / torch.where(largest > 0, largest, torch.ones_like(largest))

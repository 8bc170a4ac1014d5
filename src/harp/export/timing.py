"""What each weight of a network costs in the engine, for budgets of latency."""

from collections.abc import Sequence
from dataclasses import replace

import numpy
import torch
from torch import Tensor, nn

from harp.copies import copied
from harp.errors import HarpError
from harp.export.pack import small
from harp.graph import capture, to_arrays
from harp.models import plain
from harp.randomness import generator
from harp.runtime import cycles
from harp.sparsity import Budget, Cost, Family, Latency, Sites, Units, Vector, Weights, allocation, allot

# Prices are those between so many times what a layer would keep, the first that leaves a path through the network.
LESS, MORE = (0.6, 0.8, 1.0), 1.6
TRIALS = 4  # shares that are tried, each by how far off the last one was


def timed(units: Units, model: nn.Module, example: Tensor, asked: Budget) -> Budget:
    """What was asked for as a budget of these units of the network; of a latency they get their prices first.

    `example` is one image, as for `latency`, which says what is refused.
    """
    if asked.of == "latency" and isinstance(units, Weights) and units.latency is None:
        units.latency = latency(model, example, units.sites, asked.keep)
    return units.budget(asked)


@torch.no_grad()
def latency(model: nn.Module, example: Tensor, sites: Sites, keep: float) -> Latency:
    """Cycles of one image by the engine's planner, where about the share `keep` of the dense network's are left.

    `example` float [1, c, h, w] is traced. Weights are random and shared out by ERK for this, so that the result hangs
    on the network's shape, the share and the build of the engine alone. Raises `HarpError` for a network that cannot be
    captured, that has a layer which PyTorch would run, and where the engine is not built.
    """
    trial = _Trial(model, example, sites)
    counts = trial.few(keep * trial.whole)
    high = [min(size, max(count + 1, round(MORE * count))) for count, size in zip(counts, trial.sizes, strict=True)]
    fewer = [[max(1, round(share * count)) for count in counts] for share in LESS]
    low, least = next(((some, spent) for some in fewer if (spent := trial.spent(some)) is not None), (counts, None))
    most = trial.spent(high)
    if most is None or least is None:
        raise HarpError(f"keep: {keep:g} of the latency is less than any path through the network takes")
    more = numpy.maximum(numpy.array(high) - low, 1)
    # One kernel may end and another begin between the two; more weights are never cheaper for that.
    slopes = numpy.maximum((most - least)[:-1] / more, 0.1 * most[:-1] / high)
    return Latency(Cost(float(least.sum() - slopes @ low), slopes), trial.whole)


class _Trial:
    """The network's graph with weights drawn anew, as many as are asked for."""

    def __init__(self, model: nn.Module, example: Tensor, sites: Sites):
        self._units, self.sizes = Weights(sites), [site.size for site in sites]
        self._images = example.detach().cpu().repeat(2, 1, 1, 1)
        self._graph = capture(plain(copied(model).cpu().eval()), self._images)
        if missing := [site.name for site in sites if site.name not in self._graph.tensors]:
            raise HarpError(f"the engine has no weights of the name {missing[0]}, of which a latency could be a sum")
        draws = generator(0, "latency")
        self._dense = {site.name: torch.randn(site.param.shape, generator=draws) for site in sites}
        self._order = {site.name: torch.randperm(site.size, generator=draws) for site in sites}
        dense = self.spent(self.sizes)
        if dense is None:
            raise HarpError("the network answers every image alike, with all its weights")
        self.whole = float(dense.sum())

    def spent(self, counts: Sequence[int]) -> Vector | None:
        """Cycles by site, and last those of all else, where so many weights are left; None where these make no path."""
        tensors = dict(self._graph.tensors)
        for (name, dense), count in zip(self._dense.items(), counts, strict=True):
            mask = torch.zeros(dense.numel(), dtype=torch.bool)
            mask[self._order[name][:count]] = True
            tensors[name] = dense * mask.view_as(dense)
        made = small(replace(self._graph, tensors=tensors), self._images)
        if made.collapsed:
            return None
        places = {name: place for place, name in enumerate(self._dense)}
        found = numpy.zeros(len(places) + 1)
        for tensor, cost in cycles(to_arrays(made.graph)).items():
            owners = made.weights.get(tensor, frozenset()) & places.keys()
            found[[places[name] for name in owners] or [-1]] += cost / max(1, len(owners))
        return found

    def few(self, target: float) -> list[int]:
        """How many weights each site keeps where ERK's share costs about `target`, if that makes a path at all."""
        share, family = min(1.0, target / self.whole), allocation("erk", self._units)
        for _ in range(TRIALS):
            spent = self.spent(self._shared(share, family))
            share = min(1.0, share * (2.0 if spent is None else target / float(spent.sum())))
        return self._shared(share, family)

    def _shared(self, share: float, family: Family) -> list[int]:
        return list(allot(self._units, Budget(share, floor=0.0), family).values())

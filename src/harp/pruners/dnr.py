"""DNR: sparse training from scratch that moves weights to layers of much momentum (Kundu et al., ASP-DAC 2021)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from harp.config.values import NonNegative, Span
from harp.errors import HarpError
from harp.pruners.base import METHODS, like
from harp.pruners.method import Course, Moment
from harp.pruners.rewiring import Rewiring, RewiringOptions
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Site, Sites, Units, allocation, allot, apportion, top_mask

DENSE = 0.2  # a layer less sparse than this, and growing, drops no more than its sparsity
FREE = 0.99  # share of the pruned weights of a layer that may grow at once
NO_MOMENTUM = "dnr moves weights to where momentum is, and the optimizer has none; use SGD with momentum, or AdamW"


class DNROptions(RewiringOptions):
    """What `dnr` can be told."""

    every: Span = "1ep"
    """how often weights are dropped and others grown, such as 900it or 2ep"""
    rho: NonNegative = 1e-4
    """how strongly weights are held to what they were after the last move; 0: not at all"""


@METHODS.register("dnr")
class DNR(Rewiring):
    """DNR: trained sparse from scratch, small weights moved to layers of large momentum (Kundu et al., ASP-DAC 2021).

    Masks begin at random, every layer at the same density. Each time every layer drops ceil(share * kept) of its
    smallest weights; layers share what was dropped in proportion to the mean |momentum| of the weights they had, and
    in each the pruned weights of largest |momentum| grow, from 0, and none that has no momentum while others have.
    Momentum is the optimizer's and goes on for pruned weights, too; it is kept when they grow.

    No training code was released: this is sparse momentum (Dettmers & Zettlemoyer, 2019) with the penalty rho / 2
    |W - Z + U|^2 as METHODS 2.7 has it, which also sets the numbers. Under masks W never has more weights than the
    budget, so the projection Z is W as of the last move and U stays 0: the term holds weights where they stood. Counts
    are rounded by largest remainder, where ceilings let the total drift. The loss there, half clean and half
    adversarial, is the objective's affair, as 200 epochs at a rate of 0.1 are the recipe's. For single weights.

    Raises `HarpError` for channels, without a `course` that knows its steps, and for an optimizer without momentum.
    """

    takes = DNROptions

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: DNROptions | None = None,
        course: Course | None = None,
    ):
        self.options = options or DNROptions()
        super().__init__(what, budget, self.options, course)
        self.z: dict[str, Tensor] = {}
        counts = allot(self.units, budget, allocation("uniform", self.units))
        self.move({site.name: top_mask(self._drawn(site), counts[site.name]) for site in self.sites})

    def _drawn(self, site: Site) -> Tensor:
        """Uniform numbers in the shape of the site, on the CPU so that every device has the same."""
        noise = self.course.noise("dnr", site.name)
        return torch.rand(site.param.shape, generator=noise, dtype=torch.float64).to(site.param.device)

    def clear_pruned(self, site: Site) -> None:
        """Nothing: the momentum of pruned weights says where to grow; their values are cleared by `push`."""

    def hooks(self) -> list[RemovableHandle]:
        return []

    def penalty(self) -> Tensor:
        if not self.z or not self.options.rho:
            return super().penalty()
        squares = [(site.param - self.z[site.name]).square().sum() for site in self.sites]
        return self.options.rho / 2 * torch.stack([square.to(squares[0].device) for square in squares]).sum()

    def push(self, moment: Moment) -> None:
        if moment.setting("weights", "momentum") == 0:
            raise HarpError(NO_MOMENTUM)
        moves = moment.step > self._step and self.moves_after(moment.step)
        if moves:
            self._move(moment)
        self._step = moment.step
        super().push(moment)
        if moves or not self.z:
            self.z = {site.name: site.param.detach().clone() for site in self.sites}

    @torch.no_grad()
    def _move(self, moment: Moment) -> None:
        speeds = self._speeds(moment)
        parts = self._parts(speeds)
        stay = self._staying(parts, self.share(moment.step))
        able = {name: int(((speed > 0) & ~stay[name]).sum()) for name, speed in speeds.items()}
        counts = self._counts(parts, stay, able)
        chosen = {}
        for site in self.sites:
            mask = stay[site.name]
            grown = top_mask(speeds[site.name].masked_fill(mask, -1), counts[site.name] - int(mask.sum()))
            chosen[site.name] = mask | grown
            site.param.masked_fill_(~mask, 0)
        self.move(chosen)

    def _speeds(self, moment: Moment) -> dict[str, Tensor]:
        """|momentum| of every weight; 0 for a site that no gradient has come to."""
        found = {site.name: _momentum(moment, site) for site in self.sites}
        if all(momentum is None for momentum in found.values()):
            raise HarpError(NO_MOMENTUM)
        zeros = {site.name: torch.zeros_like(site.param) for site in self.sites}
        return {name: zeros[name] if momentum is None else momentum.abs() for name, momentum in found.items()}

    def _parts(self, speeds: Mapping[str, Tensor]) -> dict[str, float]:
        """Each layer's part in the sum over layers of the mean |momentum| of the weights that are there."""
        means = {name: float(speeds[name][self.chosen[name]].double().mean()) for name in self.units.names}
        total = sum(means.values())
        return {name: mean / total if total else 1 / len(means) for name, mean in means.items()}

    def _staying(self, parts: Mapping[str, float], share: float) -> dict[str, Tensor]:
        """What is left of each mask once the smallest weights are dropped; at least one weight."""
        stay = {}
        for site in self.sites:
            mask = self.chosen[site.name]
            kept = int(mask.sum())
            sparsity = 1 - kept / site.size
            growing = parts[site.name] * len(parts) > 1
            rate = min(share, sparsity) if sparsity < DENSE and growing else share
            gone = min(math.ceil(rate * kept - 1e-9), kept - 1)
            stay[site.name] = top_mask(site.param.abs().masked_fill(~mask, -1), kept - gone)
        return stay

    def _counts(self, parts: Mapping[str, float], stay: Mapping[str, Tensor], able: Mapping[str, int]) -> Counts:
        """How many weights each layer has once others have grown, as far as so many are `able` to."""
        left = [int(stay[name].sum()) for name in self.units.names]
        removed = sum(self.chosen.counts.values()) - sum(left)
        cost, sizes = self.units.cost(self.budget.of), self.units.sizes
        target = self.budget.count(cost(sizes))
        least = [max(n, floor) for n, floor in zip(left, self.budget.floors(sizes, cost), strict=True)]
        room = [min(int(FREE * (size - n)), able[name]) for name, n, size in zip(stay, left, sizes, strict=True)]
        most = [max(n + more, low) for n, more, low in zip(left, room, least, strict=True)]
        if cost(most) < target:
            most = list(sizes)
        room = [high - n for high, n in zip(most, left, strict=True)]
        grown = spread([parts[name] * removed for name in self.units.names], room)
        wishes = [n + more for n, more in zip(left, grown, strict=True)]
        return self.units.named(apportion(wishes, target, least, most, cost))

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "z": dict(self.z)}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        z = like({site.name: site.param for site in self.sites}, state["z"]) if state["z"] else {}
        self.z = {site.name: z[site.name].to(site.param) for site in self.sites if z}


def spread(wishes: Sequence[float], room: Sequence[int]) -> list[float]:
    """`wishes`, each at most its room; what does not fit is spread equally over those with room left."""
    found = list(wishes)
    for _ in room:
        over = sum(max(0.0, wish - most) for wish, most in zip(found, room, strict=True))
        found = [min(wish, most) for wish, most in zip(found, room, strict=True)]
        able = [i for i, most in enumerate(room) if found[i] < most]
        for i in able:
            found[i] += over / len(able)
    return [min(wish, most) for wish, most in zip(found, room, strict=True)]


def _momentum(moment: Moment, site: Site) -> Tensor | None:
    """What the optimizer remembers of a site's gradients: SGD's momentum, or the first moment of Adam and its kin."""
    state = {} if moment.optimizer is None else moment.optimizer.state.get(site.param, {})
    found = (state.get(name) for name in ("momentum_buffer", "exp_avg"))
    return next((value.detach() for value in found if isinstance(value, Tensor)), None)

"""BCS-P: sparse training by sampling which connections there are (Özdenizci & Legenstein, ICML 2021)."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harp.config.values import NonNegative, Portion, Text
from harp.errors import HarpError
from harp.pruners.base import METHODS, like
from harp.pruners.method import Course, Moment, Options, Role
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Site, Sites, Units, allocation, allot, largest, top_mask

FAINT = 1e-12  # the strength of a connection that was just drawn


class BCSPOptions(Options):
    """What `bcs-p` can be told."""

    form: Literal["repaired", "published"] = "repaired"
    """repaired: what is cut loses its momentum; published: it keeps it, so that it may come back by it, over budget"""
    start: Text = "erk"
    """how layers share the connections at first: erk, uniform, ideal-gas, lamp, global, or a file"""
    decay: Portion = 5e-4
    """share by which connections shrink each step, not times the learning rate; it falls as that does"""
    noise: NonNegative = 1e-6
    """deviation of the noise on connections, times the learning rate"""


@METHODS.register("bcs-p")
class BCSP(MovingMasks):
    """BCS-P: trained sparse; weights that would change sign give way to others (Özdenizci & Legenstein, ICML 2021).

    A weight is a random sign that stays times a strength, and there while that is above 0. Each step strengths shrink
    by `decay`, follow the optimizer and get noise; those at 0 or below are cut, and as many pruned ones as are missing
    begin at 1e-12: each in a layer drawn in proportion to its size, anywhere there. Strengths begin as |N(0, 2 /
    fan_in)| (200 epochs, the rate a tenth at a half and at three quarters). The stage's weight decay is
    not for them.

    Departures (METHODS 2.3): layers first share the budget by `start`, the paper's list of densities for each of its
    networks being replaced by a rule for all; so the start is never above budget. A layer below its floor is filled
    first, and none gets more than it has room for. `settle` cuts the weakest where the published form is over budget.
    For single weights and budgets of parameters; raises `HarpError` for others, and below the floors.
    """

    takes = BCSPOptions
    begins = "untrained"

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: BCSPOptions | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        if self.units.kind != "weights":
            raise HarpError("bcs-p draws single weights; prune channels by another method")
        if budget.of != "parameters":
            raise HarpError(f"bcs-p draws as many weights as it cuts: it needs a budget of parameters, not {budget.of}")
        self.options, self.course = options or BCSPOptions(), course or Course(1)
        self._step: int | None = None
        counts = allot(self.units, budget, allocation(self.options.start, self.units))
        self.signs = {site.name: self._signs(site) for site in self.sites}
        self.strengths = {site.name: self._first(site, counts[site.name]) for site in self.sites}
        self.move({name: strength > 0 for name, strength in self.strengths.items()})

    def trainables(self) -> dict[str, Role]:
        # The decay is the method's own: the optimizer's is multiplied by the learning rate, and so ten times weaker.
        return {"weights": Role([site.param for site in self.sites], weight_decay=0.0)}

    def push(self, moment: Moment) -> None:
        self._check()
        if self._step is not None and moment.step > self._step and moment.optimizer is not None:
            self._follow(moment)
        self._step = moment.step
        super().push(moment)

    @torch.no_grad()
    def write(self) -> None:
        """The weights are signs times strengths where masks are true, and 0 elsewhere."""
        self._check()
        for site in self.sites:
            site.param.copy_(self._weight(site, self.masks[site.name]))

    def final(self) -> Mapping[str, Tensor]:
        if self.chosen.kept <= self._allowed:
            return self.chosen
        strongest = {name: s.masked_fill(~self.chosen[name], -1) for name, s in self.strengths.items()}
        return largest(self.units, self.budget, strongest)

    @property
    def _allowed(self) -> int:
        return self.budget.count(sum(self.units.sizes))

    @torch.no_grad()
    def _follow(self, moment: Moment) -> None:
        """What the optimizer did to the weights is done to the strengths, and what is cut is made up for."""
        rate = moment.lr or 0.0
        first = moment.setting("weights", "initial_lr") or rate
        shrink = 1 - self.options.decay * (rate / first if first else 1.0)
        stay = {}
        for site in self.sites:
            was = self.chosen[site.name]
            moved = self.signs[site.name] * (site.param.detach() - self._weight(site, was))
            strength = shrink * self.strengths[site.name] + moved
            noise = self._noise("noise", site, moment.step)
            drawn = torch.randn(int(was.sum()), generator=noise, device=strength.device, dtype=strength.dtype)
            strength[was] += rate * self.options.noise * drawn
            stay[site.name] = strength > 0
            if self.options.form == "repaired":
                stay[site.name] &= was
                strength.masked_fill_(~stay[site.name], 0)
                moment.forget(site.param, ~stay[site.name])
            self.strengths[site.name] = strength
        self._draw(stay, moment.step)
        self.move({name: strength > 0 for name, strength in self.strengths.items()})

    def _draw(self, stay: Mapping[str, Tensor], step: int) -> None:
        counts = [int(stay[site.name].sum()) for site in self.sites]
        for site, count in zip(self.sites, self._missing(counts, step), strict=True):
            if count:
                free = (~stay[site.name]).flatten().nonzero().flatten()
                noise = self._noise("place", site, step)
                order = torch.randperm(len(free), generator=noise, device=free.device)
                new = torch.zeros_like(stay[site.name].flatten())
                new[free[order[:count]]] = True
                self.strengths[site.name].masked_fill_(new.view(site.param.shape), FAINT)

    def _missing(self, counts: list[int], step: int) -> list[int]:
        """How many connections each layer gets: up to its floor, and what the draw gives it of the rest."""
        sizes, floors = self.units.sizes, self.budget.floors(self.units.sizes)
        given = [max(0, floor - count) for floor, count in zip(floors, counts, strict=True)]
        noise = self.course.noise("bcs-p", "layers", step)
        while (missing := self._allowed - sum(counts) - sum(given)) > 0:
            room = [size - count - more for size, count, more in zip(sizes, counts, given, strict=True)]
            odds = torch.tensor([float(n) if r else 0.0 for n, r in zip(sizes, room, strict=True)], dtype=torch.float64)
            drawn = torch.multinomial(odds, missing, replacement=True, generator=noise).bincount(minlength=len(sizes))
            given = [more + min(n, r) for more, n, r in zip(given, drawn.tolist(), room, strict=True)]
        return given

    def _weight(self, site: Site, mask: Tensor) -> Tensor:
        return (self.signs[site.name] * self.strengths[site.name]).masked_fill(~mask, 0)

    def _noise(self, draw: str, site: Site, step: int) -> torch.Generator:
        # On the device of the weights: numbers for every connection at every step.
        return self.course.noise("bcs-p", draw, site.name, step, device=site.param.device)

    def _signs(self, site: Site) -> Tensor:
        drawn = torch.rand(site.param.shape, generator=self.course.noise("bcs-p", "signs", site.name))
        return torch.where(drawn < 0.5, -1.0, 1.0).to(site.param)

    def _first(self, site: Site, count: int) -> Tensor:
        noise = self.course.noise("bcs-p", "first", site.name)
        support = top_mask(torch.rand(site.param.shape, generator=noise, dtype=torch.float64), count)
        fan_in = site.size // site.param.shape[site.out_axis]
        strength = math.sqrt(2 / fan_in) * torch.randn(site.param.shape, generator=noise).abs().clamp(min=FAINT)
        return strength.masked_fill(~support, 0).to(site.param)

    def record(self, moment: Moment) -> dict[str, Any]:
        return {**super().record(moment), "kept": self.chosen.counts}

    def notes(self) -> list[str]:
        over = self.chosen.kept - self._allowed
        return [f"momentum brought back {over:,} connections above budget; settle cut as many"] if over > 0 else []

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "strengths": self.strengths, "signs": self.signs, "step": self._step}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        strengths, signs = like(self.strengths, state["strengths"]), like(self.signs, state["signs"])
        self.strengths = {name: strengths[name].to(own, copy=True) for name, own in self.strengths.items()}
        self.signs = {name: signs[name].to(own) for name, own in self.signs.items()}
        self._step = state["step"]

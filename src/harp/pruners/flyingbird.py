"""FlyingBird: sparse training from scratch that drops small weights and grows others (Chen et al., ICLR 2022)."""

import math
from typing import Literal

import torch
from torch import Tensor

from harp.config.values import Text
from harp.pruners.base import METHODS
from harp.pruners.method import Course, Moment, Options
from harp.pruners.rewiring import Rewiring, RewiringOptions
from harp.sparsity import Budget, Site, Sites, Units, allocation, allot, top_mask


class FlyingBirdOptions(RewiringOptions):
    """What `flyingbird` can be told."""

    grow: Literal["random", "gradient"] = "random"
    """which pruned weights grow: drawn at random, as published, or those of the largest gradient"""
    begin: Literal["untrained", "dense"] = "untrained"
    """what it starts from: the weights that the network is built with under random masks, as published, or the largest
    of the dense trained ones"""
    start: Text = "ideal-gas"
    """how layers share the budget: ideal-gas, as published, uniform, erk, lamp, global, or a file, such as a run's
    allocation.json"""


@METHODS.register("flyingbird")
class FlyingBird(Rewiring):
    """FlyingBird: trained sparse from scratch, small weights dropped for others that grow (Chen et al., ICLR 2022).

    Masks begin at random, layers sharing the budget as an ideal gas does. Each time, every layer drops
    ceil(share * kept) of its smallest weights and grows as many of those that were pruned *before*, so that what each
    layer keeps never changes; grown weights and their momentum begin at 0. Three things are repaired here of the
    released code (METHODS 2.8): as many grow as were dropped, where it draws each entry by itself; what was dropped
    cannot grow back at once with its old value; the attack is in eval mode, as in every stage. With `begin` "dense" and
    growth by gradient it is a fine-tuning that lets weights come back (METHODS 9.12). For single weights.
    Raises `HarpError` for channels, and without a `course` that knows its steps.
    """

    takes = FlyingBirdOptions

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: FlyingBirdOptions | None = None,
        course: Course | None = None,
    ):
        self.options = options or FlyingBirdOptions()
        super().__init__(what, budget, self.options, course)
        self._slopes: dict[str, Tensor] = {}
        counts = allot(self.units, budget, allocation(self.options.start, self.units))
        drawn = self.options.begin == "untrained"
        first = {name: self._drawn(name, 0, size) if drawn else size for name, size in self._sizes()}
        self.move({name: top_mask(size, counts[name]) for name, size in first.items()})

    @classmethod
    def begins_with(cls, options: Options) -> Literal["dense", "untrained"]:
        assert isinstance(options, FlyingBirdOptions)
        return options.begin

    def moved(self, step: int, name: str, kept: int, size: int) -> tuple[int, int]:
        """How many weights of the layer, which keeps `kept` of `size`, are dropped after `step`, and how many grow."""
        gone = min(math.ceil(self.share(step) * kept), kept - 1, size - kept)
        return gone, gone

    def clear_pruned(self, site: Site) -> None:
        # Under `attach` each backward pass comes by here before `pull` does, so what is cleared is summed up.
        grad = site.param.grad
        if self.options.grow == "gradient" and self.moves_after(self._step + 1) and grad is not None:
            gone = grad.detach().masked_fill(self.masks[site.name], 0)
            self._slopes[site.name] = self._slopes[site.name] + gone if site.name in self._slopes else gone
        super().clear_pruned(site)

    def push(self, moment: Moment) -> None:
        if moment.step > self._step and self.moves_after(moment.step):
            self._move(moment)
        self._step, self._slopes = moment.step, {}
        super().push(moment)

    def _move(self, moment: Moment) -> None:
        chosen = {}
        for site in self.sites:
            mask, size = self.chosen[site.name], site.param.detach().abs()
            kept = int(mask.sum())
            gone, grown = self.moved(moment.step, site.name, kept, mask.numel())
            stay = top_mask(size.masked_fill(~mask, -1), kept - gone)
            wish = self._slopes.get(site.name)
            if wish is None:
                wish = self._drawn(site.name, moment.step, size)
            chosen[site.name] = stay | top_mask(wish.abs().masked_fill(mask, -1), grown)
            moment.forget(site.param, ~stay)
        self.move(chosen)

    def _sizes(self) -> list[tuple[str, Tensor]]:
        return list(self.units.magnitudes().items())

    def _drawn(self, name: str, step: int | str, like: Tensor) -> Tensor:
        """Uniform numbers in the shape of `like`, on the CPU so that every device has the same."""
        noise = self.course.noise("flyingbird", name, step)
        return torch.rand(like.shape, generator=noise, dtype=torch.float64).to(like.device)

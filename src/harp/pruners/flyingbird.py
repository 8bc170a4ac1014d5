"""FlyingBird: sparse training from scratch that drops small weights and grows others (Chen et al., ICLR 2022)."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harp.clock import Step
from harp.config.values import Number, Span
from harp.errors import HarpError
from harp.pruners.base import METHODS
from harp.pruners.method import Course, Moment, Options
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Site, Sites, Units, allocation, allot, top_mask

Rate = Annotated[float, Number, Field(ge=0, le=1)]


class FlyingBirdOptions(Options):
    """What `flyingbird` can be told."""

    every: Span = "900it"
    """how often weights are dropped and others grown, such as 900it or 2ep"""
    drop: Rate = 0.5
    """share of each layer's weights that is dropped the first time; it falls along a cosine over the stage"""
    drop_end: Rate = 0.005
    """the share that it falls to"""
    grow: Literal["random", "gradient"] = "random"
    """which pruned weights grow: drawn at random, as published, or those of the largest gradient"""

    @model_validator(mode="after")
    def _falls(self) -> "FlyingBirdOptions":
        if self.drop_end > self.drop:
            raise ValueError(f"drop_end {self.drop_end:g} is above drop {self.drop:g}, and the share falls")
        return self


@METHODS.register("flyingbird")
class FlyingBird(MovingMasks):
    """FlyingBird: trained sparse from scratch, small weights dropped for others that grow (Chen et al., ICLR 2022).

    Masks begin at random, layers sharing the budget as an ideal gas does. Each time, every layer drops
    ceil(share * kept) of its smallest weights and grows as many of those that were pruned *before*, so that what each
    layer keeps never changes; grown weights and their momentum begin at 0. Three things are repaired here of the
    released code (METHODS 2.8): as many grow as were dropped, where it draws each entry by itself; what was dropped
    cannot grow back at once with its old value; the attack is in eval mode, as in every stage. For single weights.
    Raises `HarpError` for channels, and without a `course` that knows its steps.
    """

    takes = FlyingBirdOptions
    begins = "untrained"

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: FlyingBirdOptions | None = None,
        course: Course | None = None,
    ):
        super().__init__(what, budget)
        if self.units.kind != "weights":
            raise HarpError(f"FlyingBird drops and grows single weights; prune {self.units.kind} by another method")
        if course is None or not course.steps:
            raise HarpError("FlyingBird goes by the stage's steps: it needs course=harp.Course(steps_per_epoch, steps)")
        self.options, self.course = options or FlyingBirdOptions(), course
        self.every = Step.parse(self.options.every).steps(course.steps_per_epoch)
        self._step = 0
        self._slopes: dict[str, Tensor] = {}
        counts = allot(self.units, budget, allocation("ideal-gas", self.units))
        self.move({name: top_mask(self._drawn(name, 0, size), counts[name]) for name, size in self._sizes()})

    def share(self, step: int) -> float:
        """The share of a layer's weights that is dropped after `step`."""
        first, last = self.options.drop, self.options.drop_end
        return last + (first - last) * (1 + math.cos(math.pi * step / (self.course.steps or 1))) / 2

    def moves_after(self, step: int) -> bool:
        """Whether weights are dropped and grown after optimizer step `step`; after the last one nothing could learn."""
        return 0 < step < (self.course.steps or 0) and step % self.every == 0

    def moved(self, step: int, kept: int, size: int) -> tuple[int, int]:
        """How many weights of a layer that keeps `kept` of `size` are dropped after `step`, and how many grow."""
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
            gone, grown = self.moved(moment.step, kept, mask.numel())
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

    def record(self, moment: Moment) -> dict[str, Any]:
        return {**super().record(moment), "dropped_share": self.share(moment.step)}

    def notes(self) -> list[str]:
        if any(self.moves_after(step) for step in range(self.every, self.course.steps or 0, self.every)):
            return []
        return [f"no weight was dropped or grown: the stage is shorter than every={self.options.every}"]

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "step": self._step}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self._step = state["step"]

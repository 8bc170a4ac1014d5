"""R-ADMM: all weights train, pulled towards what pruning would leave of them (Ye et al., ICCV 2019)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harp.ambient import pinned
from harp.config.values import Number, Positive, Share, Text
from harp.errors import HarpError
from harp.pruners.base import METHODS, Pruner, like
from harp.pruners.method import Course, Moment, Options
from harp.runs import Tree
from harp.sparsity import Budget, Masks, Sites, Units, allocation, allot, top_mask, units_of

Growth = Annotated[float, Number, Field(ge=1, le=1000)]


class RADMMOptions(Options):
    """What `r-admm` can be told."""

    form: Literal["published", "repaired"] = "repaired"
    """published: the pull grows with every update, and U keeps its size when rho grows: faults of the released code"""
    rho: Positive = 0.001
    """how strongly weights are pulled at first"""
    growth: Growth = 1.3
    """factor on rho at each update of Z and U"""
    rho_max: Positive = 1.0
    """what rho grows to at most"""
    period: Share = 0.1
    """share of the stage from one update of Z and U to the next; the paper's is 20 of 200 epochs"""
    allocation: Text = "uniform"
    """how layers share the budget: uniform, as published, global (one threshold), erk, lamp, ideal-gas, or a file"""

    @model_validator(mode="after")
    def _grows(self) -> "RADMMOptions":
        if self.rho > self.rho_max:
            raise ValueError(f"rho {self.rho:g} is above rho_max {self.rho_max:g}, which it grows to")
        return self


@METHODS.register("r-admm")
class RADMM(Pruner):
    """R-ADMM: weights train towards their own projection onto the budget, then are cut to it (Ye et al., ICCV 2019).

    To the loss comes rho / 2 |W - Z + U|^2. Z begins as Proj(W), what the budget leaves of the largest units, and U as
    0. After every `period` rho grows, Z = Proj(W + U), and U gains W - Z. `settle` cuts W to Proj(W). The paper trains
    200 epochs this way at a rate of 0.01.

    Two faults of the released code decide its result, and are in the form "published" (METHODS 2.2): U keeps the graph
    of every W in it, so after m updates the gradient counts 1 + m times; and U, which is a dual variable over rho, is
    not divided by what rho grows by. Its percentile, which may keep one weight more or less a layer, is an exact count
    in both forms; fully connected layers, which it leaves dense, are pruned unless `model.exclude` names them.

    Raises `HarpError` without a `course` that knows its steps, and for a budget below the floors.
    """

    takes: ClassVar[type[Options]] = RADMMOptions
    options: RADMMOptions

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: RADMMOptions | None = None, course: Course | None = None
    ):
        self.units, self.budget = units_of(what), budget
        super().__init__(self.units.sites)
        if course is None or not course.steps:
            raise HarpError(
                f"{type(self).__name__} goes by the stage's steps: it needs course=harp.Course(steps_per_epoch, steps)"
            )
        chosen = options or self.takes()
        assert isinstance(chosen, RADMMOptions)
        self.options, self.course, self._steps = chosen, course, course.steps
        self.z: dict[str, Tensor] = {}
        self.u: dict[str, Tensor] = {}
        self.rho, self.updates = chosen.rho, 0
        self._step, self._settled = 0, False
        self._shared_out()  # what cannot be met is refused now, not after hours

    @property
    def ended(self) -> bool:
        return self._settled

    def updates_after(self, step: int) -> bool:
        """Whether Z and U are set anew after optimizer step `step`; after the last one nothing could learn."""
        return 0 < step < self._steps and self._periods(step) > self._periods(step - 1)

    def _periods(self, step: int) -> int:
        return int(step / (self.options.period * self._steps) + 1e-9)

    @property
    def pulls(self) -> int:
        """How many times the gradient of the penalty counts."""
        return 1 + self.updates if self.options.form == "published" else 1

    def penalty(self) -> Tensor:
        if not self.z:
            raise HarpError(f"{type(self).__name__}: nothing was pushed yet, so there is no Z; push() before the loss")
        squares = [(site.param - (self.z[site.name] - self.u[site.name])).square().sum() for site in self.sites]
        value = self.rho / 2 * torch.stack([square.to(squares[0].device) for square in squares]).sum()
        return value if self.pulls == 1 else value + (self.pulls - 1) * (value - value.detach())

    def pull(self) -> None:
        if self._settled:
            raise HarpError(
                f"{type(self).__name__}: settle() ended the search, and the gradients are those of the network it "
                "left; train on with harp.Masked(sites, masks), or look at that network within settled()"
            )

    @pinned()
    @torch.no_grad()
    def push(self, moment: Moment) -> None:
        self.check_places()
        if not self.z:
            self.aim_at_weights()
            self.u = {site.name: torch.zeros_like(site.param) for site in self.sites}
        elif moment.step > self._step:
            self.renew(moment.step)
        self._step = moment.step

    def aim_at_weights(self) -> None:
        """Z is what the budget leaves of the weights."""
        self.z = self._named(self.project(self._weights())[1])

    def renew(self, step: int) -> None:
        """What changes of Z, U and rho after step `step`."""
        if not self.updates_after(step):
            return
        before, self.rho = self.rho, min(self.rho * self.options.growth, self.options.rho_max)
        if self.options.form == "repaired":
            self.u = {name: u * (before / self.rho) for name, u in self.u.items()}
        aims = [site.param + self.u[site.name] for site in self.sites]
        self.z = self._named(self.project(aims)[1])
        self.u = {site.name: aim - self.z[site.name] for site, aim in zip(self.sites, aims, strict=True)}
        self.updates += 1

    def project(self, values: Sequence[Tensor]) -> tuple[Masks, list[Tensor]]:
        """The units that the budget leaves of `values`, one tensor a site: masks by group, and what is under them."""
        with self._held(values):
            counts = self._shared_out()
            masks = Masks({name: top_mask(size, counts[name]) for name, size in self.units.magnitudes().items()})
        left = self.units.effective(self._named(values), masks)
        # A product with a negative weight leaves -0; what is pruned is plain 0.
        return masks, [value.masked_fill(value == 0, 0) for value in left]

    def _shared_out(self) -> dict[str, int]:
        return allot(self.units, self.budget, allocation(self.options.allocation, self.units))

    def _weights(self) -> list[Tensor]:
        return [site.param.detach().clone() for site in self.sites]

    def _named(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        return {site.name: value for site, value in zip(self.sites, values, strict=True)}

    @contextmanager
    def _held(self, values: Sequence[Tensor]) -> Iterator[None]:
        """Within it the sites hold `values`, for units and allocations know no other weights."""
        before = self._weights()
        try:
            self._write(values)
            yield
        finally:
            self._write(before)

    @torch.no_grad()
    def _write(self, values: Sequence[Tensor]) -> None:
        for site, value in zip(self.sites, values, strict=True):
            site.param.copy_(value)

    @pinned()
    @torch.no_grad()
    def settle(self) -> Masks:
        self.check_places()
        masks, left = self.project(self._weights())
        self._write(left)
        self._settled = True
        return masks

    @contextmanager
    def settled(self) -> Iterator[None]:
        before, ended = self._weights(), self._settled
        try:
            self.settle()
            yield
        finally:
            self._settled = ended
            self._write(before)

    def notes(self) -> list[str]:
        if any(self.updates_after(step) for step in range(1, self._steps)):
            return []
        shortest = f"a stage of {self._steps} steps has no whole period of {self.options.period:g} before its end"
        return [f"Z and U never changed: {shortest}"]

    @torch.no_grad()
    def record(self, moment: Moment) -> dict[str, Any]:
        """Beside rho, how far the weights are from Z: |W - Z| / |W|."""
        away = sum(float((site.param - self.z[site.name]).double().square().sum()) for site in self.sites if self.z)
        whole = sum(float(site.param.double().square().sum()) for site in self.sites)
        return {"density": 1.0, "rho": self.rho, "distance": (away / whole) ** 0.5 if whole else 0.0}

    def state_dict(self) -> Tree:
        return {"z": dict(self.z), "u": dict(self.u), "rho": self.rho, "updates": self.updates, "step": self._step}

    def load_state_dict(self, state: Tree) -> None:
        self.z, self.u = self._taken(state["z"]), self._taken(state["u"])
        self.rho, self.updates, self._step, self._settled = state["rho"], state["updates"], state["step"], False

    @torch.no_grad()
    def _taken(self, tensors: Tree) -> dict[str, Tensor]:
        if not tensors:
            return {}
        found = like({site.name: site.param for site in self.sites}, tensors)
        # As the parameters lie in memory, which a file does not know.
        return {site.name: torch.empty_like(site.param).copy_(found[site.name]) for site in self.sites}

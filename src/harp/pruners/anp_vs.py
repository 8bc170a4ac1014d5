"""ANP-VS: channels dropped by learned probabilities, features kept steady (Madaan et al., ICML 2020)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from harp.config.values import NonNegative, Positive
from harp.errors import HarpError
from harp.pruners.base import METHODS, like
from harp.pruners.gates import SHUT, Gates
from harp.pruners.method import Course, Moment, Options, Role
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, ChannelUnits, Masks, Site, Sites, Units, above_threshold, allot, top_mask


class AnpVsOptions(Options):
    """What `anp-vs` can be told."""

    beta: NonNegative = 2.0
    """weight of the gates' divergence from a prior that wants them closed; the paper has 2 and 1"""
    vs: NonNegative = 1e-4
    """weight of the features' distance between clean and adversarial images; the paper has 1e-4 and 0.1"""
    gate_lr: Positive = 10.0
    """learning rate of the gates, as a factor on the stage's"""
    form: Literal["published", "repaired"] = "repaired"
    """published: each pass of a step draws its own gates, and vs moves the features of the later pass alone"""


@METHODS.register("anp-vs")
class AnpVs(MovingMasks):
    """ANP-VS: channels dropped at random by learned probabilities, features kept steady (Madaan et al., ICML 2020).

    Each channel has a gate. In training gates are drawn once a step, the same for clean and adversarial images; an
    attack, which runs in eval mode, meets their means, those up to 1e-3 as 0. `penalty` is `beta` times the divergence
    of all gates over the images of an epoch. `settle` keeps the channels of largest mean within the budget, whole, and
    takes the gates away: the paper has no budget and keeps soft gates. In the `published` form, as in the released
    code, each pass of a step draws gates for itself, so that suppression sees their noise, too, and pulls at the later
    pass alone.

    Vulnerability suppression is `vs` times the mean |difference| of what each layer reads, of two train-mode forward
    passes whose losses go backward together (clean and adversarial, as in trades and mart); it joins on the way back,
    so no logged loss has it, and an objective of one pass has none, which a note tells. Other departures: gates stand
    before the layers that read a channel, since behind them a batch norm could undo them; the objective's whole loss
    trains the gates, too. For channels that convolutions and linear layers read. The paper trains 200 epochs by Adam
    from a naturally trained network. Raises `HarpError` for other units and layers, and without a `course`.
    """

    takes = AnpVsOptions

    def __init__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: AnpVsOptions | None = None,
        course: Course | None = None,
    ):
        super().__init__(what, budget)
        if not isinstance(self.units, ChannelUnits):
            raise HarpError(f"anp-vs has gates on channels: it needs granularity channels, not {self.units.kind}")
        if course is None:
            raise HarpError("anp-vs weighs its gates against an epoch: it needs course=harp.Course(steps_per_epoch)")
        budget.floors(self.units.sizes, self.units.cost(budget.of))
        self.options, self.course = options or AnpVsOptions(), course
        shapes = {site.name: site.param.ndim for site in self.units.priced}
        self.gates = {
            group.name: _gates(group.size, 2.0 if shapes[group.name.partition("#")[0]] > 2 else -1.0, self.sites)
            for group in self.units.groups
        }
        self._step, self._batch, self._compared = 0, 1, False
        self._passes: dict[str, int] = {}
        self._looking = self._settled = False
        self._draws: dict[tuple[str, int, int], Tensor] = {}
        self._seen: dict[str, Tensor] = {}
        slices = [(group.name, part) for group in self.units.groups for part in group.consumers]
        self._parts = {
            site.name: [(group, part) for group, part in slices if part.name == site.name] for site in self.sites
        }
        for site in self.sites:
            _reader(site)
        self._handles: list[RemovableHandle] = []

    def _gate(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor | None:
        """The layer's input under its gates; None leaves it as it is."""
        if self._looking:
            return None
        x = inputs[0]
        axis = 1 if isinstance(module, _ConvNd) else x.ndim - 1
        turn = self._passes.get(name, 0)
        if module.training and self.options.form == "published":
            self._passes[name] = turn + 1
        for group, part in self._parts[name]:
            gate = self._drawn(group, len(x), turn) if module.training else self._means(group)[None]
            # Index -1 reads the column that is appended: what belongs to no unit passes.
            gate = torch.cat([gate, gate.new_ones(len(gate), 1)], 1)[:, part.owner.to(gate.device)]
            shape = [len(gate) if at == 0 else -1 if at == axis else 1 for at in range(x.ndim)]
            x = x * gate.to(x.dtype).view(shape)
        return self._steadied(name, x) if module.training and torch.is_grad_enabled() and self.options.vs else x

    def _drawn(self, group: str, n: int, turn: int = 0) -> Tensor:
        """Gates [n, channels] of a group, in the pass of that number where passes do not share them."""
        rank, ranks = self.course.part
        self._batch, size, key = n * ranks, len(self.gates[group].raw_a), (group, n, turn)
        if key not in self._draws:
            noise = self.course.noise("anp-vs", group, self._step, *([turn] if turn else []))
            self._draws[key] = torch.rand(n * ranks + 1, size, generator=noise).to(self.gates[group].raw_a)
        once, each = self._draws[key][0], self._draws[key][1 + n * rank : 1 + n * (rank + 1)]
        return self.gates[group].drawn(once, each)

    @torch.no_grad()
    def _means(self, group: str) -> Tensor:
        mean = self.gates[group].mean()
        return mean.masked_fill(mean <= SHUT, 0)

    def _steadied(self, name: str, x: Tensor) -> Tensor:
        other = self._seen.pop(name, None)
        if other is not None and other.shape == x.shape:
            self._compared = True
            other = other.detach() if self.options.form == "published" else other
            distance = (x - other).abs().mean() / len(self.sites)
            joined: Tensor = _Joined.apply(x, self.options.vs * distance)  # type: ignore[no-untyped-call]
            return joined
        if x.requires_grad:
            self._seen[name] = x
            x.register_hook(lambda _: self._forget(name))  # type: ignore[no-untyped-call]
        return x

    def _forget(self, name: str) -> None:
        # Once a loss has gone backward its graph is freed, and no later pass is part of it.
        self._seen.pop(name, None)

    def check_passes(self, parts: int, recompute: bool) -> None:
        if recompute:
            raise HarpError("anp-vs keeps what layers give, which would be there twice; expected recompute false")
        if parts > 1:
            raise HarpError(
                f"anp-vs draws gates and compares features by the batch, which accumulate {parts} cuts up; expected 1"
            )

    def trainables(self) -> dict[str, Role]:
        raw = [param for gates in self.gates.values() for param in (gates.raw_a, gates.raw_b)]
        return {**super().trainables(), "gates": Role(raw, lr=self.options.gate_lr)}

    def penalty(self) -> Tensor:
        total = torch.stack([gates.divergence().sum() for gates in self.gates.values()]).sum()
        return self.options.beta * total / (self.course.steps_per_epoch * self._batch)

    def push(self, moment: Moment) -> None:
        self._step, self._draws, self._seen, self._passes = moment.step, {}, {}, {}
        super().push(moment)
        if not self._handles and not self._settled:
            self._handles = [self._hung(site) for site in self.sites]

    def _hung(self, site: Site) -> RemovableHandle:
        module = _reader(site)
        assert module is not None  # or the push had refused the site
        return module.register_forward_pre_hook(partial(self._gate, site.name))

    def final(self) -> dict[str, Tensor]:
        means = {group: gates.mean().detach() for group, gates in self.gates.items()}
        counts = allot(self.units, self.budget, above_threshold(means))
        return {group: top_mask(mean, counts[group]) for group, mean in means.items()}

    def settle(self) -> Masks:
        masks = super().settle()
        if not self._looking:
            for handle in self._handles:
                handle.remove()
            self._handles, self._settled = [], True
        return masks

    @contextmanager
    def settled(self) -> Iterator[None]:
        self._looking = True
        try:
            with super().settled():
                yield
        finally:
            self._looking = False

    def record(self, moment: Moment) -> dict[str, Any]:
        opened = [max(1, int((gates.mean() > SHUT).sum())) for gates in self.gates.values()]
        cost = self.units.cost(self.budget.of)
        return {"density": cost(opened) / cost(self.units.sizes)}

    def notes(self) -> list[str]:
        if self._compared or not self.options.vs or not self._step:
            return []
        return ["no features were compared: vs needs an objective of clean and adversarial passes, such as trades"]

    def state_dict(self) -> Tree:
        raw = {group: {"a": gates.raw_a.detach(), "b": gates.raw_b.detach()} for group, gates in self.gates.items()}
        return {**super().state_dict(), "gates": raw, "compared": self._compared, "step": self._step}

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        for group, gates in self.gates.items():
            own = {"a": gates.raw_a, "b": gates.raw_b}
            for key, value in like(own, state["gates"].get(group, {})).items():
                own[key].copy_(value)
        self._compared, self._step = state["compared"], state["step"]

    def __getstate__(self) -> dict[str, Any]:
        # Graphs can be neither copied nor pickled.
        return {**vars(self), "_seen": {}}


class _Joined(torch.autograd.Function):
    """Passes x on, and adds the scalar `loss` to whatever is differentiated through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(loss)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, torch.ones_like(ctx.saved_tensors[0])


def _gates(size: int, raw: float, sites: Sites) -> Gates:
    # b begins at 1: softplus(0.5413).
    like = sites[0].param
    return Gates(*(nn.Parameter(torch.full((size,), value, dtype=like.dtype).to(like)) for value in (raw, 0.5413)))


def _reader(site: Site) -> nn.Module | None:
    """The layer that holds the weight, None where the network is gone; raises `HarpError` for another kind of layer."""
    module = site.place.module if site.place else None
    if module is not None and not isinstance(module, nn.Linear | _ConvNd):
        raise HarpError(f"anp-vs has gates before convolutions and linear layers, and {site.name} is in neither")
    return module

"""Channels as units: one layer group for each group of channels that can only go together."""

from collections.abc import Callable, Mapping

import numpy
import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.config.values import Granularity
from harp.errors import HarpError
from harp.sparsity.blocks import Blocks
from harp.sparsity.channels import find_channels
from harp.sparsity.costs import Cost, Vector, trace_macs
from harp.sparsity.groups import Channels, Slice
from harp.sparsity.places import place_of
from harp.sparsity.sites import Site, Sites, find_sites, find_weights
from harp.sparsity.units import Units, Weights, scaled
from harp.wrappers import unwrapped


class ChannelUnits(Units):
    """Channels of `model` that can only go together as one unit, tied ones as one layer group (`find_channels`).

    A mask multiplies the input slices of every weight that reads the channel, which silences it exactly. `sites` are
    the weights that read prunable channels; prices count all weights in `priced` (`find_sites`), with `macs` by name
    from `trace_macs`. Raises `HarpError` where no channel can go, with the reasons.
    """

    kind = "channels"

    def __init__(
        self, model: nn.Module, channels: Channels, priced: Sites, macs: Mapping[str | None, int] | None = None
    ):
        if not channels.groups:
            why = "; ".join(f"{name}: {reason}" for name, reason in channels.fixed.items())
            raise HarpError(f"{type(model).__name__} has no channels that can be removed with equal logits ({why})")
        self.groups, self.fixed = channels.groups, channels.fixed
        self.priced, self.macs = priced, macs
        read = {part.name for group in self.groups for part in group.consumers}
        by_name = dict(model.named_parameters())
        known = {site.name: site for site in priced}
        sites = tuple(
            known.get(name) or Site(name, by_name[name], place=place_of(model, name))
            for name in by_name
            if name in read
        )
        super().__init__(sites, [group.name for group in self.groups], [group.size for group in self.groups])
        self._slices = {
            site.name: [(g.name, part) for g in self.groups for part in g.consumers if part.name == site.name]
            for site in sites
        }

    def cost(self, of: str) -> Cost:
        if of == "latency":
            raise HarpError("a budget of latency is of single weights; channels have budgets of parameters and of macs")
        if of == "macs" and self.macs is None:
            raise HarpError(
                "a budget of macs needs the cost of each layer: ChannelUnits(..., trace_macs(model, images))"
            )
        count = len(self.groups)
        constant, linear, quadratic = 0.0, numpy.zeros(count), numpy.zeros((count, count))
        for site in self.priced:
            uses = 1.0 if self.macs is None or of == "parameters" else self.macs.get(site.name, 0) / site.size
            rest, first, second = 1.0, *(self._length(site, axis) for axis in (site.out_axis, site.in_axis))
            for axis, length in enumerate(site.param.shape):
                rest *= 1 if axis in (site.out_axis, site.in_axis) else length
            rest *= uses
            constant += rest * first[0] * second[0]
            linear += rest * (first[0] * second[1] + second[0] * first[1])
            quadratic += rest * numpy.outer(first[1], second[1])
        return Cost(constant, linear, quadratic)

    def _length(self, site: Site, axis: int) -> tuple[float, Vector]:
        """How long an axis is: what stays in any case, and what each layer group's unit adds."""
        fixed, adds = float(site.param.shape[axis]), numpy.zeros(len(self.groups))
        for index, group in enumerate(self.groups):
            for part in group.members:
                if part.name == site.name and part.axis == axis:
                    adds[index] += part.each
                    fixed -= part.each * group.size
        return fixed, adds

    def magnitudes(self) -> dict[str, Tensor]:
        sizes = {}
        params = {site.name: site.param.detach() for site in self.sites}
        for group in self.groups:
            squares = params[group.consumers[0].name].new_zeros(group.size)
            for part in group.consumers:
                weight = params[part.name].transpose(0, part.axis).flatten(1).square().sum(1)
                owned = part.owner.to(weight.device) >= 0
                squares.index_add_(0, part.owner.to(weight.device)[owned], weight[owned])
            sizes[group.name] = squares.sqrt()
        return sizes

    def filter_sums(self) -> dict[str, Tensor]:
        """The sum of the absolute weights that make each channel, by layer group, as the weights are now."""
        return self._over_makers(Tensor.abs)

    def filter_means(self) -> dict[str, Tensor]:
        """The root mean square of the weights that make each channel, by layer group, as the weights are now."""
        counts = self._over_makers(torch.ones_like)
        return {name: (sum_ / counts[name]).sqrt() for name, sum_ in self._over_makers(Tensor.square).items()}

    def _over_makers(self, measure: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        params = {site.name: site.param.detach() for site in self.priced}
        sums = {}
        for group in self.groups:
            read = {(part.name, part.axis) for part in group.consumers}
            makers = [part for part in group.members if part.name in params and (part.name, part.axis) not in read]
            total = params[group.name].new_zeros(group.size)
            for part in makers:
                filters = measure(params[part.name].transpose(0, part.axis).flatten(1)).sum(1)
                owner = part.owner.to(filters.device)
                total.index_add_(0, owner[owner >= 0], filters[owner >= 0])
            sums[group.name] = total
        return sums

    def first_scores(self) -> dict[str, Tensor]:
        return {name: scaled(size, len(size)) for name, size in self.magnitudes().items()}

    def weight_counts(self) -> list[int]:
        return [sum(self._read(part) * group.size for part in group.consumers) for group in self.groups]

    def _read(self, part: Slice) -> int:
        param = next(site.param for site in self.sites if site.name == part.name)
        return param.numel() // param.shape[part.axis] * part.each

    def dimensions(self) -> list[int]:
        shapes = {site.name: site.param.shape for site in self.sites}
        return [sum(sum(shapes[part.name]) for part in group.consumers) for group in self.groups]

    def effective(self, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[Tensor]:
        return [self._silenced(dense[site.name], self._slices[site.name], masks) for site in self.sites]

    def _silenced(self, weight: Tensor, slices: list[tuple[str, Slice]], masks: Mapping[str, Tensor]) -> Tensor:
        for name, part in slices:
            shape = [-1 if axis == part.axis else 1 for axis in range(weight.ndim)]
            weight = weight * part.mask(masks[name]).to(weight.dtype).view(shape)
        return weight


@precise()
def find_units(model: nn.Module, example: Tensor, kind: Granularity = "weights", sites: Sites | None = None) -> Units:
    """The units of any granularity, with their prices in parameters and in multiply-accumulates.

    `example` float [1, c, h, w] is traced; `sites` (None: `find_sites(model)`) are the weights that budgets count.
    Channels that a weight outside `sites` makes or reads stay, and so do those of frozen weights, which are in `sites`
    only by name. Raises `HarpError` where no channel can go, and for blocks where no site has a kernel.
    """
    model = unwrapped(model)
    sites = sites or find_sites(model)
    macs = trace_macs(model, example)
    if kind == "weights":
        return Weights(sites, macs)
    if kind != "channels":
        return Blocks(sites, kind, macs)
    return ChannelUnits(model, _within(find_channels(model, example), model, sites), sites, macs)


def _within(channels: Channels, model: nn.Module, sites: Sites) -> Channels:
    selected = {site.name for site in sites}
    outside = {site.name: site.param for site in find_weights(model) if site.name not in selected}
    reasons: dict[str, str] = {}
    for group in channels.groups:
        touched = [part.name for part in group.members if part.name in outside]
        if touched:
            frozen = [name for name in touched if not outside[name].requires_grad]
            reasons[group.name] = f"{frozen[0]} is frozen" if frozen else f"{min(touched)} is not selected"
    return Channels(tuple(g for g in channels.groups if g.name not in reasons), {**channels.fixed, **reasons})

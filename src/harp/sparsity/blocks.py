"""Blocks of weights as units: rows of kernels, kernels, or filters, masked where they stand (Mao et al., 2017)."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy
from torch import Tensor

from harp.errors import HarpError
from harp.sparsity.costs import Cost
from harp.sparsity.sites import Site, Sites
from harp.sparsity.units import Units, Weights, scaled

Block = Literal["vectors", "kernels", "filters"]


class Blocks(Units):
    """Blocks of the weights of convolutions as units, one layer group a site, all of a block zero or none.

    "kernels": the k x k weights between an input and an output channel; "vectors": a row of those, k weights;
    "filters": all weights of an output channel, whose place in the network stays, with its bias and norm. In weights
    of two axes every weight is a unit of its own, as in the paper (Mao et al., CVPRW 2017, section 3). A unit's
    magnitude is its 2-norm, as that of channels, where the paper has the sum of absolute values; its price is its
    number of weights. Masks over units have the shape of the weight without the axes of a block; `by_site` spreads
    them, such as for `Masked`. Raises `HarpError` where no site has a kernel.
    """

    def __init__(self, sites: Sites, kind: Block, macs: Mapping[str | None, int] | None = None):
        if all(site.param.ndim < 3 for site in sites):
            raise HarpError(f"granularity {kind} is for convolutions, and no weight here has a kernel; prune weights")
        self.kind = kind
        self.axes = {site.name: _axes(site, kind) for site in sites}
        each = [math.prod(site.param.shape[axis] for axis in self.axes[site.name]) for site in sites]
        super().__init__(
            sites, [site.name for site in sites], [site.size // size for site, size in zip(sites, each, strict=True)]
        )
        self._singly = Weights(sites, macs)
        self._each = numpy.array(each, dtype=numpy.float64)

    def cost(self, of: str) -> Cost:
        return Cost(0.0, self._singly.cost(of).linear * self._each)

    def magnitudes(self) -> dict[str, Tensor]:
        return {site.name: _norm(site.param.detach(), self.axes[site.name]) for site in self.sites}

    def first_scores(self) -> dict[str, Tensor]:
        sizes = self.magnitudes()
        return {
            site.name: scaled(sizes[site.name], site.size // site.param.shape[site.out_axis]) for site in self.sites
        }

    def weight_counts(self) -> list[int]:
        return self._singly.weight_counts()

    def dimensions(self) -> list[int]:
        return self._singly.dimensions()

    def effective(self, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[Tensor]:
        return [dense[name] * self._spread(name, masks[name]) for name in self.names]

    def _spread(self, name: str, mask: Tensor) -> Tensor:
        for axis in self.axes[name]:
            mask = mask.unsqueeze(axis)
        return mask


def _axes(site: Site, kind: Block) -> tuple[int, ...]:
    """The axes of the weight that lie within a unit, ascending."""
    axes = range(site.param.ndim)
    if len(axes) < 3:
        return ()
    if kind == "filters":
        return tuple(axis for axis in axes if axis != site.out_axis)
    return tuple(axes[2:] if kind == "kernels" else axes[-1:])


def _norm(weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    # A sum over no axes would be one over all of them.
    return weight.square().sum(axes).sqrt() if axes else weight.abs()

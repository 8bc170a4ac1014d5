"""Li20: adversarial winning tickets, cut by magnitudes that are alike in every layer (Li et al., 2020)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from harp.config.values import Text
from harp.errors import HarpError
from harp.pruners.base import METHODS, Pruner
from harp.pruners.masked import Masked
from harp.pruners.method import Course, Moment, Options
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Masks, Site, Sites, Units, allocation, allot, largest, top_mask


class Li20Options(Options):
    """What `li20` can be told."""

    form: Literal["published", "repaired"] = "repaired"
    """published: while the ticket trains every bias shrinks, each step to the share of its row that the mask keeps;
    repaired: biases are left alone"""
    allocation: Text | None = None
    """how layers share the budget: lamp, uniform, erk, ideal-gas, global, kept, or a file; none: as one ranking of all
    weights, each over its layer's mean, leaves it, as published"""


@METHODS.register("li20")
class Li20(MovingMasks):
    """Li20: the largest weights of the dense network, each over its layer's mean, stay, at once (Li et al., 2020).

    One ranking over all layers. The tickets of the paper begin anew from the weights that the network was built with:
    `finetune.rewind true`. It trains the dense network at a small learning rate (.01) and the ticket at a larger one
    (.1). Each layer keeps its floor, where the published percentile knows none.

    In the `published` form the ticket is trained as the released code does it (METHODS 2.12): applying the masks after
    each step it multiplies the biases by the masks' means, too, so that at 10 % five steps leave 1e-5 of them. For any
    units, but that form not for channels, whose rows stay whole. Raises `HarpError` for a budget below the floors.
    """

    takes = Li20Options

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: Li20Options | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        self.options = options or Li20Options()
        if self.options.form == "published" and self.units.kind == "channels":
            raise HarpError("li20's published form shrinks biases by masks, and channels leave none; take the repaired")
        sizes = self.units.magnitudes()
        if self.options.allocation is None:
            scores = {name: size / size.mean().clamp(min=1e-30) for name, size in sizes.items()}
            self.move(largest(self.units, budget, scores))
        else:
            kept = allot(self.units, budget, allocation(self.options.allocation, self.units))
            self.move({name: top_mask(size, kept[name]) for name, size in sizes.items()})

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        return 0

    @classmethod
    def tuned(cls, options: Options) -> Callable[[Sites, Masks], Pruner]:
        assert isinstance(options, Li20Options)
        return Masked if options.form == "repaired" else FadingBiases


class FadingBiases(Masked):
    """`Masked`, but that every step multiplies each layer's biases by the shares of their rows that are kept.

    Raises `HarpError` for biases that no rows of the weight are.
    """

    def __init__(self, sites: Sites, masks: Masks):
        super().__init__(sites, masks)
        self._step = 0
        for site in self.sites:
            bias, share = _bias(site), self._share(site)
            if bias is not None and bias.shape != share.shape:
                raise HarpError(
                    f"{site.name} has {len(share)} rows and {len(bias)} biases; li20's published form knows one a row"
                )

    @torch.no_grad()
    def push(self, moment: Moment) -> None:
        if moment.step > self._step:
            for site in self.sites:
                if (bias := _bias(site)) is not None:
                    bias.mul_(self._share(site))
        self._step = moment.step
        super().push(moment)

    def _share(self, site: Site) -> Tensor:
        return self.masks[site.name].transpose(0, site.out_axis).flatten(1).to(site.param.dtype).mean(1)

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "step": self._step}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self._step = state["step"]


def _bias(site: Site) -> nn.Parameter | None:
    bias = getattr(site.place.module if site.place else None, "bias", None)
    return bias if isinstance(bias, nn.Parameter) else None

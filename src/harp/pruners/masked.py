"""Training what is left, under masks that stay."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harp.errors import HarpError
from harp.pruners.base import Pruner, like
from harp.pruners.method import Moment
from harp.runs import Tree
from harp.sparsity import Masks, Site, Sites


class Masked(Pruner):
    """Trains the weights under fixed masks: pruned weights are exactly zero and stay so, whatever the optimizer adds.

    Raises `HarpError` where the masks do not fit the sites.
    """

    def __init__(self, sites: Sites, masks: Masks):
        super().__init__(sites)
        if {site.name: site.param.shape for site in self.sites} != {name: mask.shape for name, mask in masks.items()}:
            raise HarpError("the masks are not those of this model: names or shapes of the sites differ")
        self.masks = Masks({site.name: masks[site.name].to(site.param.device) for site in self.sites})

    def pull(self) -> None:
        self._check()
        for site in self.sites:
            self.clear_pruned(site)

    def push(self, moment: Moment) -> None:
        self.write()

    @torch.no_grad()
    def write(self) -> None:
        """Pruned weights are exactly zero."""
        self._check()
        for site in self.sites:
            site.param.masked_fill_(~self.masks[site.name], 0)

    def hooks(self) -> list[RemovableHandle]:
        return [self._hook(site) for site in self.sites]

    def kept(self) -> dict[nn.Parameter, Tensor]:
        return {site.param: self.masks[site.name] for site in self.sites}

    def settle(self) -> Masks:
        return self.masks

    def state_dict(self) -> Tree:
        return {"masks": dict(self.masks)}

    def load_state_dict(self, state: Tree) -> None:
        masks = like({site.name: self.masks[site.name] for site in self.sites}, state["masks"])
        self.masks = Masks({site.name: masks[site.name].to(site.param.device) for site in self.sites})

    def _hook(self, site: Site) -> RemovableHandle:
        trains = site.param.requires_grad
        site.param.requires_grad_(True)  # torch takes no hook on a frozen parameter, which may thaw later
        # After each backward pass, so that a sum over several holds nothing of the pruned either.
        hook: RemovableHandle = site.param.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            lambda _: self.clear_pruned(site)
        )
        site.param.requires_grad_(trains)
        return hook

    @torch.no_grad()
    def clear_pruned(self, site: Site) -> None:
        """The gradient of pruned weights is 0; called as gradients accumulate (`hooks`), and by `pull`."""
        if site.param.grad is not None:
            site.param.grad.masked_fill_(~self.masks[site.name], 0)

    def _check(self) -> None:
        self.check_places()
        for site in self.sites:
            here, there = self.masks[site.name].device, site.param.device
            if here != there:
                raise HarpError(
                    f"{site.name} was moved to {there} after the pruner was made on {here}; move the model first, then "
                    "make the pruner"
                )

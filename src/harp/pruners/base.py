"""Pull and push: how pruning acts on a model that stays an ordinary dense module.

The model's own parameters hold the effective weights. After each backward pass, `pull` carries their gradient to
whatever is really trained; after each optimiser step, `push` writes new effective weights into the model:

    loss.backward();  pruner.pull();  optimiser.step();  pruner.push(step)
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.registry import Registry
from harp.runs import Tree
from harp.sparsity import Masks, Sites

METHODS: Registry[Callable[..., "Pruner"]] = Registry("pruning method")


class Pruner:
    """Does nothing, which is how a dense model trains; every method overrides what it needs."""

    companions: Literal["all", "norms"] = "all"
    """Which parameters outside the sites train beside `trainables`: all, or those of normalisation layers."""

    def __init__(self, sites: Sites = ()):
        self.sites = sites

    def trainables(self) -> dict[str, list[nn.Parameter]]:
        """What the optimiser trains in place of the sites, by role: weights, scores, rates."""
        return {"weights": [site.param for site in self.sites]}

    def penalty(self) -> Tensor:
        """A scalar added to the loss."""
        return torch.zeros(())

    def pull(self) -> None:
        """Turns the gradients at the effective weights into gradients of the trainables; after backward."""

    def push(self, step: int) -> None:
        """Writes the effective weights into the model; after optimiser step number `step`, and once with 0 before.

        Not to be called inside an autocast region, which caches cast weights and would go on using the old ones.
        """

    def kept(self) -> dict[nn.Parameter, Tensor]:
        """Which entries of each site the network has now, bool; a site left out has them all."""
        return {}

    def settle(self) -> Masks:
        """The masks that meet the budget exactly; the model is the network they leave.

        Ends the stage: train on with `Masked`. Raises `HarpError` for a pruner that has no masks.
        """
        raise HarpError(f"{type(self).__name__} prunes nothing, so it has no masks")

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Within it the model is the network that `settle` would give; afterwards it is as before."""
        yield

    def record(self, weight_decay: float) -> dict[str, Any]:
        """JSON values worth a line in the metrics; `weight_decay` is that of the rates, where there are any."""
        return {}

    def state_dict(self) -> Tree:
        """All that `load_state_dict` needs to go on bit for bit: tensors and JSON values."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Takes up the state that `state_dict` gave."""


class Masked(Pruner):
    """Trains the weights under fixed masks: pruned weights are exactly zero and stay so, whatever the optimiser adds.

    Raises `HarpError` where the masks do not fit the sites.
    """

    def __init__(self, sites: Sites, masks: Masks):
        super().__init__(sites)
        if {site.name: site.param.shape for site in sites} != {name: mask.shape for name, mask in masks.items()}:
            raise HarpError("the masks are not those of this model: names or shapes of the sites differ")
        self.masks = Masks({site.name: masks[site.name].to(site.param.device) for site in sites})

    def pull(self) -> None:
        for site in self.sites:
            if site.param.grad is not None:
                site.param.grad.masked_fill_(~self.masks[site.name], 0)

    @torch.no_grad()
    def push(self, step: int) -> None:
        for site in self.sites:
            site.param.masked_fill_(~self.masks[site.name], 0)

    def kept(self) -> dict[nn.Parameter, Tensor]:
        return {site.param: self.masks[site.name] for site in self.sites}

    def settle(self) -> Masks:
        return self.masks

    def state_dict(self) -> Tree:
        return {"masks": dict(self.masks)}

    def load_state_dict(self, state: Tree) -> None:
        self.masks = Masks({site.name: state["masks"][site.name].to(site.param.device) for site in self.sites})


class Reparam(Pruner):
    """Trains latents from which the effective weights are computed; a subclass writes `weights` and `trainables`."""

    def __init__(self, sites: Sites):
        super().__init__(sites)
        self._effective: list[Tensor] = []

    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The effective weights, one per site, differentiable in the latents."""

    def kept(self) -> dict[nn.Parameter, Tensor]:
        # What is computed as exactly zero has no score high enough, or no value to lose.
        pairs = zip(self.sites, self._effective, strict=True)
        return {site.param: weight.detach() != 0 for site, weight in pairs}

    def push(self, step: int) -> None:
        self._effective = self.weights()
        with torch.no_grad():
            for site, weight in zip(self.sites, self._effective, strict=True):
                site.param.copy_(weight)

    def pull(self) -> None:
        pairs = [
            (weight, site.param.grad)
            for site, weight in zip(self.sites, self._effective, strict=True)
            if site.param.grad is not None
        ]
        torch.autograd.backward([w for w, _ in pairs], [g for _, g in pairs])

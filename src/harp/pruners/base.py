"""Pull and push: how pruning acts on a model that stays an ordinary dense module.

The model's own parameters hold the effective weights. After each backward pass, `pull` carries their gradient to
whatever is really trained; after each optimiser step, `push` writes new effective weights into the model:

    loss.backward();  pruner.pull();  optimiser.step();  pruner.push(step)

What reads gradients (clipping, logging) comes after `pull`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, float32, nn, zeros
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from harp.errors import HarpError
from harp.pruners.attached import Attached
from harp.registry import Registry
from harp.runs import Tree
from harp.sparsity import Masks, Sites, checked

METHODS: Registry[Callable[..., "Pruner"]] = Registry("pruning method")


class SearchWarning(UserWarning):
    """Why what a search for masks ended with may be worse than it could be."""


class Pruner:
    """Does nothing, which is how a dense model trains; every method overrides what it needs.

    A copy or a pickle is one of the network, too (`copy.deepcopy((model, pruner))`); made alone it has sites that are
    no network's, and raises `HarpError` when it is used. Raises `HarpError` for sites that are none.
    """

    companions: Literal["all", "norms"] = "all"
    """Which parameters outside the sites train beside `trainables`: all, or those of normalisation layers."""

    def __init__(self, sites: Sites = ()):
        self.sites = checked(sites)

    @property
    def acts(self) -> bool:
        """Whether it changes weights or gradients of its sites; one that does not may be attached beside others."""
        return type(self) is not Pruner

    @property
    def ended(self) -> bool:
        """Whether `settle` has ended the search, so that another pruner may have the sites."""
        return False

    def trainables(self) -> dict[str, list[nn.Parameter]]:
        """What the optimiser trains in place of the sites, by role: weights, scores, rates."""
        return {"weights": [site.param for site in self.sites]}

    def decays(self) -> Mapping[str, float]:
        """The weight decay that the method wants, by role; a role without one has the optimiser's."""
        return {}

    def penalty(self) -> Tensor:
        """A scalar added to the loss."""
        return zeros((), dtype=float32, device="cpu")

    def pull(self) -> None:
        """Turns the gradients at the effective weights into gradients of the trainables; after backward."""

    def push(self, step: int) -> None:
        """Writes the effective weights into the model; after optimiser step number `step`, and once with 0 before.

        Not to be called inside an autocast region, which caches cast weights and would go on using the old ones.
        Raises `HarpError` where the sites are no part of the network any more, or hold what this would throw away.
        """

    def hooks(self) -> list[RemovableHandle]:
        """Hooks on the sites by which what reads `.grad` before `pull` sees what `pull` will leave; for `attach`."""
        return []

    def kept(self) -> dict[nn.Parameter, Tensor]:
        """Which entries of each site the network has now, bool; a site left out has them all."""
        return {}

    def attach(self, optimiser: Optimizer, start: int = 0) -> Attached:
        """Pull and push, and the penalty, around every `optimiser.step()` of a loop that stays as it is.

        Bit for bit the explicit loop; a context manager, or `detach()` ends it, or the end of the optimiser. Pushes
        once at once; `start` is the number of steps done before. At each step, in this order: the penalty's gradient
        is added, `pull`, the step, `push`, and gradients of sites and trainables are None, whichever of the model and
        the optimiser the loop zeroes. So of several backward passes before a step all count and the penalty counts
        once. bfloat16 autocast is as in any loop.

        What reads gradients between backward and step (clipping, logging, SAM): under `Masked` those of pruned weights
        are zero as soon as they exist, so a norm is that of the weights that are left. During a search the model's
        gradients are those at the effective weights, pruned ones included, since these are what scores and rates learn
        from: clipping the model's gradients scales all that is pulled, but not the penalty. Scores and rates have no
        gradient before the step, so clipping the optimiser's own parameters (Lightning's `gradient_clip_val`) reaches
        the normalisation layers only.

        Raises `HarpError` for an optimiser without the trainables, or with sites that are computed from them
        (`harp.sgd` makes the right one), and for sites of a pruner that is attached already; at the step for gradients
        that are not finite, before a weight is touched, for torch's GradScaler (float16), for a step inside autocast,
        and for a closure that is called twice (LBFGS). Move the model to its device before the pruner is made.
        """
        return Attached(self, optimiser, start)

    def settle(self) -> Masks:
        """The masks that meet the budget exactly; the model is the network they leave.

        Ends the stage: train on with `Masked`. What `notes` has to say is issued as `SearchWarning`. Raises `HarpError`
        for a pruner that has no masks.
        """
        raise HarpError(f"{type(self).__name__} prunes nothing, so it has no masks")

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Within it the model is the network that `settle` would give; afterwards it is as before."""
        yield

    def notes(self) -> list[str]:
        """What a reader of the results should know of where the search stands."""
        return []

    def collapsed(self) -> list[str]:
        """Those of the `notes` that are no better in the middle of a search than at its end."""
        return []

    def record(self, weight_decay: float) -> dict[str, Any]:
        """JSON values worth a line in the metrics; `weight_decay` is that of the rates, where there are any."""
        return {}

    def state_dict(self) -> Tree:
        """All that `load_state_dict` needs to go on bit for bit: tensors and JSON values."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Takes up the state that `state_dict` gave."""

    def check_places(self) -> None:
        """Raises `HarpError` where a site is no part of a network (any more)."""
        for site in self.sites:
            if site.place is not None and not site.place.holds(site.param):
                raise HarpError(
                    f"{site.name} of this {type(self).__name__} is no network's parameter any more: the pruner was "
                    "copied or unpickled without its network, or the network got another parameter in its place "
                    "(load_state_dict(assign=True), a move to meta); make a new pruner, which can take up this one's "
                    "state_dict()"
                )


def like(own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`others`, a state's tensors by name; raises `HarpError` where they are not those of `own` in name and shape."""
    for name, tensor in own.items():
        if name not in others or others[name].shape != tensor.shape:
            raise HarpError(f"the state is that of another network: it has no {name} of shape {list(tensor.shape)}")
    return others

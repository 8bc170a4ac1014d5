"""Training latents from which the effective weights are computed, in a model whose own weights are only written."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.errors import HarpError
from harp.pruners.base import Pruner
from harp.pruners.method import Moment
from harp.runs import Tree
from harp.sparsity import Site, Sites

# Why there is no pull, by what the pruner did last.
_NO_PULL = {
    "made": "nothing was pushed yet, so the gradients are those of other weights; push() before the forward pass",
    "pulled": "pull() twice after one push() would count gradients twice; pull once, after the last backward pass",
    "settled": "settle() ended the search, and the gradients are those of the network it left; train on with "
    "harp.Masked(sites, masks), or look at that network within settled()",
}


class Reparam(Pruner):
    """Trains latents from which the effective weights are computed; a subclass writes `weights` and `trainables`.

    What the sites hold is noted when the pruner is made and whenever it writes, and compared before it writes again:
    raises `HarpError` where something else has changed them for good in between, which would be lost. A few units in
    the last place are no change: weights that were moved and moved back (AWP, SAM) are off by so much.
    """

    def __init__(self, sites: Sites):
        super().__init__(sites)
        self._known = [[site.param.detach().clone() for site in self.sites]]
        self._graph: list[Tensor] | None = None
        self._last: Literal["made", "pushed", "pulled", "settled"] = "made"

    @property
    def ended(self) -> bool:
        return self._last == "settled"

    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The effective weights, one per site, differentiable in the latents."""

    def kept(self) -> dict[nn.Parameter, Tensor]:
        # What is computed as exactly zero has no score high enough, or no value to lose.
        weights = self.weights() if self._last == "made" else self._known[0]
        return {site.param: weight.detach() != 0 for site, weight in zip(self.sites, weights, strict=True)}

    @pinned()
    def push(self, moment: Moment) -> None:
        weights = self.weights()
        self.check_untouched(lambda: weights)
        self.write(weights, "pushed")
        self._graph = weights

    @pinned()
    def pull(self) -> None:
        self.check_places()
        if self._last != "pushed":
            raise HarpError(f"{type(self).__name__}: {_NO_PULL[self._last]}")
        # A copy has no graph; what it would have written is what the model's copy holds.
        weights = self.weights() if self._graph is None else self._graph
        pairs = [
            (weight, site.param.grad)
            for site, weight in zip(self.sites, weights, strict=True)
            if site.param.grad is not None
        ]
        torch.autograd.backward([w for w, _ in pairs], [g for _, g in pairs])
        self._graph, self._last = None, "pulled"

    def load_state_dict(self, state: Tree) -> None:
        # The model's own state may be loaded before or after this: `weights` are then what it holds.
        self._known = [[site.param.detach().clone() for site in self.sites]]
        self._graph, self._last = None, "made"

    @torch.no_grad()
    def write(self, weights: list[Tensor], last: Literal["pushed", "settled"]) -> None:
        """The model holds `weights`, which are now those that the pruner wrote."""
        for site, weight in zip(self.sites, weights, strict=True):
            site.param.copy_(weight)
        pairs = zip(self.sites, weights, strict=True)
        self._known, self._graph, self._last = [[w.detach().to(s.param) for s, w in pairs]], None, last

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Afterwards the sites, and what is noted of them, are bit for bit as before."""
        before, noted = [site.param.detach().clone() for site in self.sites], (self._known, self._graph, self._last)
        try:
            yield
        finally:
            with torch.no_grad():
                for site, weight in zip(self.sites, before, strict=True):
                    site.param.copy_(weight)
            self._known, self._graph, self._last = noted

    def slopes(self, loss: Tensor, latents: Sequence[nn.Parameter]) -> list[Tensor]:
        """The gradient of `loss`, which is of the network as it was pushed, by each of `latents`; nobody's `.grad`."""
        given = torch.autograd.grad(loss, [site.param for site in self.sites], allow_unused=True)
        pairs = [(w, g) for w, g in zip(self.weights(), given, strict=True) if g is not None and w.requires_grad]
        zeros = [torch.zeros_like(latent) for latent in latents]
        if not pairs:
            return zeros
        found = torch.autograd.grad([w for w, _ in pairs], latents, [g for _, g in pairs], allow_unused=True)
        return [zero if slope is None else slope for zero, slope in zip(zeros, found, strict=True)]

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Within it the model is what the latents, moved meanwhile, stand for, and `pull` is for them there.

        Afterwards the sites are bit for bit as before.
        """
        before, known = [site.param.detach().clone() for site in self.sites], self._known
        weights = self.weights()
        self.write(weights, "pushed")
        self._graph = weights
        try:
            yield
        finally:
            with torch.no_grad():
                for site, weight in zip(self.sites, before, strict=True):
                    site.param.copy_(weight)
            self._known, self._graph = known, None

    def check_untouched(self, weights: Callable[[], list[Tensor]]) -> None:
        """Raises `HarpError` where writing would throw away what something else put into the sites.

        `weights`: what the latents stand for now; where the sites hold that already, nothing is lost.
        """
        self.check_places()
        for number, site in enumerate(self.sites):
            known = [tensors[number] for tensors in self._known]
            _check_kind(site, known[0])
            if any(torch.equal(site.param, tensor) for tensor in known):
                continue
            if not any(_close(site.param, tensor) for tensor in (*known, weights()[number])):
                raise HarpError(
                    f"{site.name} is neither what this {type(self).__name__} copied when it was made nor what it "
                    "wrote last, so writing would throw away what came since (a checkpoint, training, a broadcast); "
                    "make the pruner after that, and put back what was only moved before the step"
                )

    def __getstate__(self) -> dict[str, Any]:
        # Graphs can be neither copied nor pickled.
        return {**vars(self), "_graph": None}


def _check_kind(site: Site, known: Tensor) -> None:
    for was, now in ((known.device, site.param.device), (known.dtype, site.param.dtype)):
        if was != now:
            raise HarpError(
                f"{site.name} was {was} when the pruner was made and is {now} now; move and convert the model first, "
                "then make the pruner"
            )


@torch.no_grad()
def _close(now: Tensor, known: Tensor) -> bool:
    # There and back: each of the two sums rounds by half a unit in the last place.
    slack = 8 * torch.finfo(known.dtype).eps * float(known.abs().max())
    return torch.allclose(now, known, rtol=0, atol=slack, equal_nan=True)

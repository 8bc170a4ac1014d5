"""Networks whose answers depend on what they were asked before, and networks that cannot answer one image alone."""

import contextlib
import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harp.attacks import AttackWarning
from harp.attacks.losses import wrong
from harp.models import Function, Logits
from harp.modes import evaluating
from harp.wrappers import unwrapped

# As a share of the largest centred logit. The same kernels on the same numbers: an honest network shows 0 on a CPU;
# dropout of a tenth of the pixels shows 0.5 to 0.8. A GPU that adds in changing order stays near float32's 1e-6.
SAME = 1e-4
CHANGED = "state: the network by now withstands images that break it as it was at first; those count as broken"


def apart(some: Tensor, others: Tensor) -> float:
    """The largest difference as a share of the largest logit about its row's mean; NaN where there is a NaN."""
    size = (others - others.mean(1, keepdim=True)).abs().max()
    return float((some - others).abs().max() / size.clamp(min=torch.finfo(size.dtype).tiny))


class Untouched:
    """A network as it was when this was made, whatever it is asked later.

    A copy, so what lies outside of the network (a list in a function's closure, say) it shares with the original.
    Any callable will do, and answers that wrap their logits are opened.
    """

    def __init__(self, model: nn.Module | Callable[[Tensor], object]):
        self._kept: nn.Module | None = None
        model = Logits(unwrapped(model)) if isinstance(model, nn.Module) else Function(model)
        # Whatever a foreign network does to a copy: without one it is taken as it stands.
        with evaluating(model), contextlib.suppress(Exception):
            self._kept = copy.deepcopy(model)

    @torch.no_grad()
    def answers(self, x: Tensor, batch: int | None = None) -> Tensor | None:
        """What a copy that nothing was asked yet says of the images, [n, classes], `batch` at a time (None: all).

        None where there is none, or where two such copies differ: then the network is random, and says nothing.
        """
        kept = self._kept
        if kept is None:
            return None
        with contextlib.suppress(Exception):
            first, second = (ask(copy.deepcopy(kept), x, batch) for _ in range(2))
            return first if apart(first, second) <= SAME else None
        return None

    def held(self, held: Tensor, adv: Tensor, y: Tensor) -> Tensor:
        """Those of `held` (bool [n]) that are answered rightly by a copy that nothing was asked yet, too.

        Where that says otherwise than the network does by now, an `AttackWarning` tells.
        """
        if self._kept is None or not held.any():
            return held
        with contextlib.suppress(Exception), torch.no_grad():
            if not (held & wrong(copy.deepcopy(self._kept)(adv), y)).any():
                return held
        answers = self.answers(adv)
        if answers is None:
            return held
        warnings.warn(AttackWarning(CHANGED), stacklevel=2)
        return held & ~wrong(answers, y)


@torch.no_grad()
def ask(model: nn.Module, x: Tensor, batch: int | None = None) -> Tensor:
    """Logits [n, classes] of images [n, ...], `batch` at a time (None: all)."""
    return torch.cat([model(part) for part in torch.split(x, batch or len(x))])


class Accompanied(nn.Module):
    """`model`, for which an image that is alone is asked twice over: batch norm in train mode takes no batch of one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != 1:
            found: Tensor = self.model(x)
            return found
        both: Tensor = self.model(torch.cat([x, x]))
        return both[:1]


@torch.no_grad()
def accompanied(model: nn.Module, x: Tensor) -> nn.Module:
    """`model` itself (in eval mode), or `Accompanied` where it fails on the first image alone, but not on two of it."""
    for network, image in ((model, x[:1]), (Accompanied(model), x[:1])):
        with contextlib.suppress(Exception):
            network(image)
            return network
    return model

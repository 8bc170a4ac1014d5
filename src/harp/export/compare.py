"""How far one network's logits lie from another's, and how far they may."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.modes import evaluating
from harp.sparsity import copied

Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Agreement:
    """The largest relative difference of logits over so many images, and how large it might have been."""

    images: int
    difference: float
    allowed: float


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors of one shape as a share of the largest absolute value of `expected`.

    Infinite where shapes differ or a number is not finite; where all of `expected` is 0, the difference itself.
    """
    if found.shape != expected.shape:
        return torch.inf
    far, size = (found.double() - expected.double()).abs(), expected.double().abs()
    if not bool(far.isfinite().all()):
        return torch.inf
    return float(far.max() / size.max()) if size.any() else float(far.max())


@torch.no_grad()
def agree(model: nn.Module, other: Answer, batches: Iterable[Tensor], tolerance: float, what: str) -> Agreement:
    """How `other` compares with `model` (in eval mode) on images [n, c, h, w]: to `tolerance` of the largest logit.

    A network that float32 itself computes less exactly is allowed three times its own distance from float64. Raises
    `HarpError`, naming `what` gave other logits, where they differ by more, and where there are no images.
    """
    found = Agreement(0, 0.0, tolerance)
    with evaluating(model):
        for x in batches:
            expected = model(x)
            difference = relative(other(x), expected)
            allowed = tolerance if difference <= tolerance else max(tolerance, 3 * _own_error(model, x, expected))
            if not difference <= allowed:
                raise HarpError(
                    f"{what} gives other logits than the network: they differ by {difference:.1e} of the largest; "
                    f"expected {allowed:.1e} at most"
                )
            found = Agreement(found.images + len(x), max(found.difference, difference), max(found.allowed, allowed))
    if not found.images:
        raise HarpError(f"no images to compare {what} with the network on; expected at least one batch")
    return found


def _own_error(model: nn.Module, x: Tensor, expected: Tensor) -> float:
    exact = copied(model).double()
    try:
        with evaluating(exact):
            return relative(expected, exact(x.double()))
    except RuntimeError:  # a network that casts inside to a type of its own has no float64 to go by
        return 0.0

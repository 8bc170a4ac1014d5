"""How far one network's logits lie from another's, and how far they may."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from harp.copies import copied
from harp.errors import HarpError
from harp.models.adapt import logits_of
from harp.modes import evaluating

Answer = Callable[[Tensor], Tensor]
NOISE = 1e-6  # of the largest logit: what two sums of the same numbers may differ by
REPEATS = 8


@dataclass(frozen=True)
class Agreement:
    """The largest relative difference of logits over so many images, and how large it might have been."""

    images: int
    difference: float
    allowed: float


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors of one shape as a share of the largest finite value of `expected`.

    Infinite where shapes differ, or where NaN and infinities of either sign stand in other places; where all of
    `expected` is 0 or not finite, the difference itself.
    """
    if found.shape != expected.shape:
        return torch.inf
    found, expected = found.double(), expected.double()
    finite = expected.isfinite()
    same = (found == expected) | (found.isnan() & expected.isnan())
    if not bool((same | (finite & found.isfinite())).all()):
        return torch.inf
    if not expected.numel():
        return 0.0
    zero = torch.zeros((), dtype=torch.float64, device=expected.device)
    far, size = torch.where(finite, found - expected, zero).abs(), torch.where(finite, expected, zero).abs()
    return float(far.max() / size.max()) if size.any() else float(far.max())


@torch.no_grad()
def steady(model: nn.Module, x: Tensor) -> None:
    """Nothing, where `model` (in eval mode) answers images [n, c, h, w] the second time as it did the first.

    To 1e-6 of the largest logit: on the CPU the bits are the same, and sums in an order that threads decide differ by
    less. Where the first answer drew random numbers, `REPEATS` more are looked at, since a rare event may miss one.
    Raises `HarpError` for a network that is random, and for one that changes its parameters or buffers, by name.
    """
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    drawn = _generators(x)
    with evaluating(model):
        first = _answer(model, x)
        for _ in range(1 if _generators(x) == drawn else 1 + REPEATS):
            if (difference := relative(_answer(model, x), first)) > NOISE:
                raise HarpError(
                    f"the network answers the same images otherwise the second time, by {difference:.1e} of the "
                    "largest logit: it is random in eval mode (F.dropout takes training=self.training), or remembers; "
                    "expected one that always answers alike"
                )
    after = model.state_dict()
    for name, value in before.items():
        if name not in after or relative(after[name], value) > 0:
            raise HarpError(f"the network changes {name} when it is asked in eval mode; expected one that only answers")


def _answer(model: nn.Module, x: Tensor) -> Tensor:
    try:
        return logits_of(model(x))
    except HarpError:
        raise
    except Exception as error:  # whatever a foreign network raises
        line = " ".join(str(error).split())[:300]
        raise HarpError(f"the network fails on images {list(x.shape)}: {type(error).__name__}: {line}") from error


def _generators(x: Tensor) -> tuple[Any, ...]:
    """The state of every generator that a network may draw from."""
    numbers: Any = numpy.random.get_state()
    on_device = torch.cuda.get_rng_state(x.device).numpy().tobytes() if x.is_cuda else b""
    return torch.get_rng_state().numpy().tobytes(), on_device, random.getstate(), numbers[1].tobytes(), numbers[2]


@torch.no_grad()
def agree(model: nn.Module, other: Answer, batches: Iterable[Tensor], tolerance: float, what: str) -> Agreement:
    """How `other` compares with `model` (in eval mode) on images [n, c, h, w]: to `tolerance` of the largest logit.

    A network that float32 itself computes less exactly is allowed three times its own distance from float64. Raises
    `HarpError`, naming `what` gave other logits, where they differ by more, and where there are no images.
    """
    found = Agreement(0, 0.0, tolerance)
    with evaluating(model):
        for x in batches:
            expected = logits_of(model(x))
            difference = relative(other(x), expected)
            allowed = tolerance if difference <= tolerance else _allowed(model, x, expected, tolerance)
            if not difference <= allowed:
                raise HarpError(
                    f"{what} gives other logits than the network: they differ by {difference:.1e} of the largest; "
                    f"expected {allowed:.1e} at most"
                )
            found = Agreement(found.images + len(x), max(found.difference, difference), max(found.allowed, allowed))
    if not found.images:
        raise HarpError(f"no images to compare {what} with the network on; expected at least one batch")
    return found


def _allowed(model: nn.Module, x: Tensor, expected: Tensor, tolerance: float) -> float:
    steady(model, x)  # else what is random would be taken for what float32 computes badly
    own = _own_error(model, x, expected)
    return max(tolerance, 3 * own) if own < torch.inf else tolerance


def _own_error(model: nn.Module, x: Tensor, expected: Tensor) -> float:
    exact = copied(model).double()
    try:
        with evaluating(exact):
            return relative(expected, logits_of(exact(x.double())))
    except RuntimeError:  # a network that casts inside to a type of its own has no float64 to go by
        return 0.0

"""What every attack is."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from harp.ambient import pinned, usable
from harp.errors import HarpError
from harp.randomness import Noise
from harp.threats import Threat


class Attack(Protocol):
    """A value-like object: `attack(model, x, y, threat, noise)` gives adversarial images of the shape of `x`.

    `x` float [n, c, h, w] in the threat's box, `y` int64 [n]. Every random number comes from `noise`: a generator on
    the device of `x`, or `Keyed`, which makes each point's result its own, whatever else is in the batch. Attacks
    of harp's own may be called without: then it is named by a point's place in the batch, so that the same call gives
    the same images. The model is attacked in eval mode and left in the modes it came in; no gradient is left on its
    parameters.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> Tensor: ...


class Cascade(dict[str, Attack]):
    """Attacks by name, each for what those before it left right, as AutoAttack does; a plain dict's are for all."""


def fits(attack: Any, x: Tensor, threat: Threat) -> None:
    """Nothing where `attack` can do its work on images like `x` under the threat.

    Raises the `HarpError` that its call would raise, after whatever comes before it. An attack may say so by a method
    `fits(x, threat)`.
    """
    if hasattr(attack, "fits"):
        attack.fits(x, threat)


class AttackWarning(UserWarning):
    """Why an attack's verdict may be doubted, or what stood in for the published attack: `NAME, CHECK: sentence`.

    The text names no point and counts nothing, so that the same finding in two batches is the same text.
    """


Given = TypeVar("Given", bound=Callable[..., Any])


def guarded(call: Given) -> Given:
    """An attack's method under pinned settings (`harp.ambient`), so that it does the same wherever it is called.

    Images made in inference mode are copied. Raises `HarpError` for images of float16 or bfloat16: their steps, up to
    a whole 1/255, would carry the attack out of the threat.
    """

    @wraps(call)
    def inside(attack: Any, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Any:
        if x.dtype in (torch.float16, torch.bfloat16):
            kind = str(x.dtype).removeprefix("torch.")
            raise HarpError(f"images of {kind} are too coarse to attack; give float32, and cast inside the network")
        with pinned():
            return call(attack, model, usable(x), usable(y), threat, noise)

    return cast(Given, inside)

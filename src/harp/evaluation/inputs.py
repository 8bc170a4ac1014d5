"""What an evaluation refuses before it attacks anything: images outside the box, labels and logits that do not fit."""

import math

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.threats import Threat, exact

# A float32 image that went through a mean and a deviation and back is 1e-7 off; a forgotten normalisation is 1 off.
ROUNDING = 1e-6


def check_images(x: Tensor, threat: Threat, first: int = 0) -> None:
    """Nothing where every pixel is finite and in the threat's box, to a millionth of its width.

    `x` is a batch [n, ...] of floating point; `first` is the place of its first image in the set. Raises `HarpError`
    with the place of the first image that does not fit, or where there is no image.
    """
    if not x.is_floating_point() or x.ndim < 2 or len(x) == 0:
        raise HarpError(f"images are {form(x)}; expected floating point [n, channels, height, width], at least one")
    if x.dtype in (torch.float16, torch.bfloat16):
        raise HarpError(f"images are {form(x)}, too coarse to be attacked; give float32, and cast inside the network")
    slack = ROUNDING * (threat.high - threat.low)
    # Comparisons with NaN are false, so it counts as outside.
    fits = ((x >= threat.low - slack) & (x <= threat.high + slack)).flatten(1)
    if not fits.all():
        index = int((~fits.all(1)).nonzero()[0])
        pixel = float(x[index].flatten()[~fits[index]][0])
        raise HarpError(
            f"image {first + index} has a pixel of {pixel:.4g}; expected the threat's box, {threat.low:g} to "
            f"{threat.high:g} (a model that wants normalised images normalises inside itself)"
        )


def check_eps(threat: Threat, x: Tensor) -> None:
    """Nothing where eps is no more than two images of the shape of `x` [n, ...] in the box can lie apart.

    Else every image could become any other. Raises `HarpError`, which asks whether 255ths were meant.
    """
    width = threat.high - threat.low
    apart = width * (1 if threat.norm == math.inf else max(1, x[0:1].numel()) ** (1 / threat.norm))
    if threat.eps > apart * (1 + ROUNDING):
        meant = f"; did you mean {exact(threat.eps / 255)}?" if width == 1 and threat.eps <= 255 else ""
        raise HarpError(
            f"eps {threat.eps:g} allows every image: no two lie further apart than {apart:g} with pixels from "
            f"{threat.low:g} to {threat.high:g}{meant}"
        )


def check_labels(y: Tensor, n: int, classes: int, first: int = 0) -> None:
    """Nothing where `y` is int64 [n] with numbers below `classes`; else raises `HarpError`, with the first's place."""
    if y.dtype != torch.int64 or y.shape != (n,):
        raise HarpError(f"labels are {form(y)}; expected int64 [{n}], one for each image")
    outside = ((y < 0) | (y >= classes)).nonzero()
    if len(outside):
        index = int(outside[0])
        raise HarpError(f"image {first + index} has label {int(y[index])}; the network has classes 0 to {classes - 1}")


def mode_note(model: nn.Module) -> str | None:
    """A sentence where modules of `model` are in train mode: evaluation puts them in eval mode and back."""
    modules = list(model.named_modules())
    training = [name or "the network itself" for name, module in modules if module.training]
    if not training:
        return None
    return (
        f"{len(training)} of {len(modules)} modules came in train mode (first: {training[0]}); "
        "they are evaluated in eval mode and given back as they came."
    )


def form(tensor: Tensor) -> str:
    """`float32 [8, 3, 32, 32]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"

"""What a corruption is, the register of all of them, and how strong each level is.

Kinds and levels are those of Hendrycks & Dietterich ("Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019), for images of any size and any number of channels: strengths in pixel values are those of
their CIFAR-10-C for images of sides below 64 and those of their ImageNet-C for others, lengths are shares of a side.
The images are not their files, so accuracies do not compare with published ones.

Written here, since what there is (`imagecorruptions`, the authors' scripts) is of 2020, takes two sizes of colour
images alone, wants OpenCV, scikit-image and ImageMagick, and draws from numpy's global generator.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.randomness import Keyed
from harp.registry import Registry

LEVELS = (1, 2, 3, 4, 5)
SMALL = 64  # pixels of the shorter side below which strengths are those of small images
Corruption = Callable[[Tensor, int, Keyed], Tensor]
"""`corruption(x, level, noise)`: float [n, c, h, w] in [0, 1], like `x`; `level` from 1 to 5, a draw of each image."""
Five = tuple[float, float, float, float, float]

CORRUPTIONS: Registry[Corruption] = Registry("corruption", "corruptions")
"""Name -> corruption; `CORRUPTIONS.summary(name)` is one line on what it does."""


@torch.no_grad()
def corrupted(x: Tensor, kind: str, level: int, noise: Keyed) -> Tensor:
    """Images `x` (float [n, c, h, w] in [0, 1]) under a corruption of `level` 1 to 5, in whole steps of 1/255.

    An image's result depends on its own draw and on nothing else. Raises `HarpError` for a kind or level there is not,
    and for a corruption that gives something else than such images.
    """
    if level not in LEVELS:
        raise HarpError(f"level {level}: expected 1 to {LEVELS[-1]}")
    found = CORRUPTIONS[kind](x.clone(), level, noise)
    if not isinstance(found, Tensor) or found.shape != x.shape or not found.isfinite().all():
        got = f"{tuple(found.shape)}, finite or not" if isinstance(found, Tensor) else type(found).__name__
        raise HarpError(f"corruption {kind} gives {got}; expected {tuple(x.shape)}, finite, an image for each")
    return (found.clamp(0, 1) * 255).round().to(x) / 255


def strength(x: Tensor, level: int, small: Five, large: Five) -> float:
    """That of the level for images as small, or as large, as those of `x`."""
    return (small if min(x.shape[2:]) < SMALL else large)[level - 1]

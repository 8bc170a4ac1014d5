"""Random variations of a batch of images: numbers drawn for each image, and what they do to it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from harp.data.windows import Range, Window
from harp.errors import HarpError

# Of red, green and blue in the brightness of a colour (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


class Varied(TypedDict, total=False):
    """How training images are varied; whatever is left out is not done."""

    flip: bool
    """mirror half of the images"""
    pad: int
    """zero pixels on each side before a window of the images' own size is cut out"""
    crop: Range | None
    """least and greatest share of an image's area that a window may have, which is resized to the image's size"""
    jitter: float
    """by how much of themselves brightness, contrast and saturation may change, in [0, 1]"""


@dataclass(frozen=True)
class Draws:
    """What was drawn for the n images of a batch; None is not done. All on the CPU, the same on every device."""

    shifts: Tensor | None  # int64 [2, n]: rows and columns of each window, counted from the padding's corner
    windows: Tensor | None  # float32 [4, n]: what `windows.drawn` decides by
    mirrored: Tensor | None  # bool [n]
    factors: Tensor | None  # float32 [3, n]: of brightness, contrast, saturation

    @classmethod
    def of(cls, varied: Varied, n: int, noise: torch.Generator) -> "Draws":
        """The draws for a batch of `n` images, in the order of the fields."""
        pad, crop, jitter = varied.get("pad", 0), varied.get("crop"), varied.get("jitter", 0.0)
        return cls(
            _shifts(n, pad, noise) if pad else None,
            _uniform((4, n), noise) if crop is not None else None,
            _mirrored(n, noise) if varied.get("flip", False) else None,
            1 + jitter * (2 * _uniform((3, n), noise) - 1) if jitter else None,
        )

    def part(self, images: slice) -> "Draws":
        """Those of some of the batch's images."""
        held = (getattr(self, field.name) for field in fields(self))
        return Draws(*(None if values is None else values[..., images] for values in held))


def check_varied(varied: Varied, size: tuple[int, int]) -> None:
    """Raises `HarpError` for variations that images of `size` (h, w) cannot have."""
    pad, crop, jitter = varied.get("pad", 0), varied.get("crop"), varied.get("jitter", 0.0)
    # With a whole side of zeros around it an image could be cropped to nothing but zeros.
    if pad and not 0 <= pad < min(size):
        raise HarpError(f"pad is {pad} for images of {min(size)} pixels; expected 0 to {min(size) - 1}")
    if crop is not None and not 0 < crop[0] <= crop[1] <= 1:
        raise HarpError(f"crop is {crop[0]:g} to {crop[1]:g}; expected shares above 0 and up to 1, the smaller first")
    if crop is not None and pad:
        raise HarpError(f"pad is {pad} beside crop, which cuts windows out, too; expected one of them")
    if not 0 <= jitter <= 1:
        raise HarpError(f"jitter is {jitter:g}; expected 0 to 1")


def crop(images: Tensor, pad: int, noise: torch.Generator) -> Tensor:
    """Windows of the images' own size, at a random place of each image after `pad` zero pixels on every side.

    `images` is [n, c, h, w] of any dtype; every offset from 0 to 2 * `pad` is equally likely, in both
    directions apart. `noise` is on the CPU, so that every device gets the same windows.
    """
    return shifted(images, pad, _shifts(len(images), pad, noise))


def shifted(images: Tensor, pad: int, shifts: Tensor) -> Tensor:
    """The windows at `shifts` (int64 [2, n]: down, right) of the images [n, c, h, w] with `pad` zeros around them."""
    n, c, h, w = images.shape
    device = images.device
    down, right = shifts.to(device)
    rows = (down[:, None] + torch.arange(h, device=device))[:, None, :, None]
    columns = (right[:, None] + torch.arange(w, device=device))[:, None, None, :]
    image = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(c, device=device)[None, :, None, None]
    return functional.pad(images, [pad] * 4)[image, channel, rows, columns]


def mirror(images: Tensor, noise: torch.Generator) -> Tensor:
    """The images [n, c, h, w], each mirrored left to right with probability 1/2; `noise` is on the CPU."""
    return mirrored(images, _mirrored(len(images), noise))


def mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    """The images [n, c, h, w], the `chosen` ones (bool [n]) mirrored left to right."""
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)


def magnified(images: Tensor, windows: Sequence[Window]) -> Tensor:
    """Each image's window, stretched to the whole image by linear interpolation along rows and columns.

    `images` is float32 [n, c, h, w], with a window for each. A window is no larger than its image, so none is shrunk.
    """
    h, w = images.shape[2:]
    places = [[one.top, one.left, one.height, one.width] for one in windows]
    top, left, height, width = torch.tensor(places, dtype=torch.int64, device=images.device).view(-1, 4).unbind(1)
    low, high, rest = (one[:, None, :, None] for one in _between(top, height, h))
    above, below = images.gather(2, low.expand_as(images)), images.gather(2, high.expand_as(images))
    images = _mixed(above, below, rest)
    low, high, rest = (one[:, None, None, :] for one in _between(left, width, w))
    before, after = images.gather(3, low.expand_as(images)), images.gather(3, high.expand_as(images))
    return _mixed(before, after, rest)


def jittered(images: Tensor, factors: Tensor) -> Tensor:
    """The images, brightness, contrast and saturation multiplied by `factors` (float32 [3, n]) in this order.

    `images` is float32 [n, c, h, w] in [0, 1], and so is what comes out. Contrast is against the image's mean
    brightness, saturation against each pixel's; images that are not of three channels have none to change.
    """
    light, contrast, colour = factors.to(images.device)[:, :, None, None, None].unbind()
    images = (images * light).clamp(0, 1)
    # Whole numbers, whose sum does not depend on how many images there are or how a device adds up.
    whole = (_grey(images) * (1 << 24)).to(torch.int64)
    mean = (whole.sum((1, 2, 3), keepdim=True).double() / (images.shape[2] * images.shape[3]) / (1 << 24)).float()
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    if images.shape[1] != 3:
        return images
    grey = _grey(images)
    return (grey + colour * (images - grey)).clamp(0, 1)


def _mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    # Not torch.lerp, whose rounding at the end of a tensor is another than within it.
    return first + share * (second - first)


def _grey(images: Tensor) -> Tensor:
    """The brightness of each pixel, [n, 1, h, w]."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _between(first: Tensor, length: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """For `count` points spread over each stretch of pixels the pixel before, the one after, and how far between.

    `first` and `length` are int64 [n]; the answers [n, count]. Beyond the outer pixels' middles nothing changes.
    """
    points = (torch.arange(count, dtype=torch.float32, device=first.device) + 0.5) / count
    at = (points * length[:, None] - 0.5).clamp(min=0).minimum((length[:, None] - 1).float())
    low = at.long()
    high = (low + 1).minimum(length[:, None] - 1)
    return first[:, None] + low, first[:, None] + high, at - low


def _shifts(n: int, pad: int, noise: torch.Generator) -> Tensor:
    return torch.randint(0, 2 * pad + 1, (2, n), generator=noise, device="cpu")


def _mirrored(n: int, noise: torch.Generator) -> Tensor:
    return _uniform((n,), noise) < 0.5


def _uniform(shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=noise, dtype=torch.float32, device="cpu")

"""Corruptions that move light from place to place: blurs, fog, bends. Lengths are shares of the shorter side.

So images of a few pixels may stay as they are at the lower levels, where a blur is less than a pixel wide.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from harp.evaluation.corruptions.base import CORRUPTIONS, strength
from harp.randomness import Keyed

ZOOMS = 11  # views whose mean a zoom is


@CORRUPTIONS.register("defocus-blur")
def defocus_blur(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Out of focus: each point is a disc, of a radius from 0.013 to 0.045 of a side."""
    radius = (0.013, 0.018, 0.027, 0.036, 0.045)[level - 1] * min(x.shape[2:])
    reach = math.ceil(radius)
    off = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    disc = (radius + 0.5 - (off[:, None] ** 2 + off[None] ** 2).sqrt()).clamp(0, 1)
    return _spread(x, disc.expand(len(x), -1, -1))


@CORRUPTIONS.register("motion-blur")
def motion_blur(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """The camera moved in a straight line of random direction, by 0.03 to 0.13 of a side."""
    length = (0.03, 0.05, 0.07, 0.1, 0.13)[level - 1] * min(x.shape[2:])
    angle = noise.uniform((1, 1), -math.pi / 4, math.pi / 4).to(x)
    reach = math.ceil(length / 2)
    off = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    down, across = off[:, None], off[None]
    along = across * angle.cos() + down * angle.sin()
    aside = down * angle.cos() - across * angle.sin()
    line = (1 - aside.abs()).clamp(min=0) * (length / 2 + 0.5 - along.abs()).clamp(0, 1)
    return _spread(x, line)


@CORRUPTIONS.register("zoom-blur")
def zoom_blur(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """The camera came nearer: the mean of views enlarged from once to 1.11 to 1.31 times."""
    most = (1.11, 1.16, 1.21, 1.26, 1.31)[level - 1]
    total = torch.zeros_like(x)
    for step in range(ZOOMS):
        shrink = 1 / (1 + (most - 1) * step / (ZOOMS - 1))
        view = torch.tensor([[shrink, 0.0, 0.0], [0.0, shrink, 0.0]], device=x.device, dtype=x.dtype)
        total += _sampled(x, affine_grid(view.expand(len(x), -1, -1), list(x.shape), align_corners=False))
    return total / ZOOMS


@CORRUPTIONS.register("fog")
def fog(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Uneven fog over the scene, whose thickness is a random field without a scale of its own."""
    thick = strength(x, level, (0.2, 0.5, 0.75, 1.0, 1.5), (1.5, 2.0, 2.5, 2.5, 3.0))
    decay = strength(x, level, (3.0, 3.0, 2.5, 2.0, 1.75), (2.0, 2.0, 1.7, 1.5, 1.4))
    field = _field(x, noise, 1 + math.log2(decay))
    low, high = (field.flatten(1).amin(1), field.flatten(1).amax(1))
    cloud = (field - low[:, None, None]) / (high - low).clamp(min=1e-6)[:, None, None]
    most = x.flatten(1).amax(1)[:, None, None, None]
    return (x + thick * cloud[:, None]) * most / (most + thick)


@CORRUPTIONS.register("elastic")
def elastic(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Bent: every point is moved by up to about 0.01 to 0.05 of a side, and its neighbours with it."""
    far = (0.01, 0.02, 0.03, 0.04, 0.05)[level - 1]
    ways = torch.stack([_field(x, noise.at(way), 3.0) for way in (1, 2)], -1)
    ways = ways / ways.flatten(1).abs().amax(1).clamp(min=1e-6)[:, None, None, None]
    same = torch.eye(2, 3, device=x.device, dtype=x.dtype).expand(len(x), -1, -1)
    return _sampled(x, affine_grid(same, list(x.shape), align_corners=False) + 2 * far * ways)


def _spread(x: Tensor, kernels: Tensor) -> Tensor:
    """Each image [c, h, w] convolved with its own kernel [k, k], whose sum is made 1; edges go on as they are."""
    n, channels, height, width = x.shape
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    reach = kernels.shape[-1] // 2
    wide = pad(x, (reach, reach, reach, reach), mode="replicate").view(1, n * channels, height + 2 * reach, -1)
    each = kernels.repeat_interleave(channels, 0)[:, None]
    return conv2d(wide, each, groups=n * channels).view(n, channels, height, width)


def _sampled(x: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _field(x: Tensor, noise: Keyed, power: float) -> Tensor:
    """A random field for each image [n, h, w], mean 0, whose waves' heights fall as 1 / frequency ** `power`."""
    height, width = x.shape[2:]
    down = torch.fft.fftfreq(height, device=x.device, dtype=torch.float64)[:, None] * height
    across = torch.fft.rfftfreq(width, device=x.device, dtype=torch.float64)[None] * width
    length = (down**2 + across**2).sqrt()
    heights = torch.where(length > 0, length.clamp(min=1) ** -power, 0.0)
    waves = torch.fft.rfft2(noise.normal((height, width)).double()) * heights
    field: Tensor = torch.fft.irfft2(waves, s=(height, width))
    return field.to(x)

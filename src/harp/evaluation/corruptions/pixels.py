"""Corruptions of pixels where they stand: noise, light, coarser pixels, compression."""

import io

import numpy
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harp.errors import HarpError
from harp.evaluation.corruptions.base import CORRUPTIONS, strength
from harp.extras import need
from harp.randomness import Keyed


@CORRUPTIONS.register("gaussian-noise")
def gaussian_noise(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Gaussian noise on every value, as in poor light."""
    deviation = strength(x, level, (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38))
    return x + deviation * noise.normal(x.shape[1:]).to(x)


@CORRUPTIONS.register("shot-noise")
def shot_noise(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Poisson noise: light comes in so many quanta at full brightness, 500 to 50 of small images, 60 to 3 of large."""
    quanta = strength(x, level, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    return poisson(quanta * x, noise.uniform(x.shape[1:]).to(x)) / quanta


@CORRUPTIONS.register("impulse-noise")
def impulse_noise(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Salt and pepper: a share of all values is 0 or 1."""
    share = strength(x, level, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
    drawn = noise.uniform(x.shape[1:]).to(x)
    return torch.where(drawn < share, (drawn < share / 2).to(x), x)


@CORRUPTIONS.register("brightness")
def brightness(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """More light: the largest channel of each pixel grows, hue and saturation stay."""
    more = strength(x, level, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    value = x.amax(1, keepdim=True)
    lighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x * (lighter / value), lighter.expand_as(x))


@CORRUPTIONS.register("contrast")
def contrast(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Less contrast: a share of each channel's difference from its mean is left."""
    left = strength(x, level, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    mean = x.mean((2, 3), keepdim=True)
    return mean + left * (x - mean)


@CORRUPTIONS.register("pixelate")
def pixelate(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """Fewer pixels: each side has a share of them left, and each is as large as those it stands for."""
    share = strength(x, level, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
    height, width = (max(1, int(share * side)) for side in x.shape[2:])
    return interpolate(interpolate(x, (height, width), mode="area"), tuple(x.shape[2:]), mode="nearest-exact")


@CORRUPTIONS.register("jpeg")
def jpeg(x: Tensor, level: int, noise: Keyed) -> Tensor:
    """JPEG at a quality from 80 down to 40, of large images from 25 down to 7; needs Pillow, of the extra `images`."""
    quality = int(strength(x, level, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)))
    if x.shape[1] not in (1, 3):
        raise HarpError(f"corruption jpeg: expected images of 1 or 3 channels, got {x.shape[1]}")
    pillow = need("PIL.Image", "images", "the corruption jpeg")
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    found = []
    for image in pixels:
        file = io.BytesIO()
        pillow.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
        found.append(torch.from_numpy(numpy.array(pillow.open(file))).view(*image.shape))
    return torch.stack(found).permute(0, 3, 1, 2).to(x) / 255


def poisson(mean: Tensor, drawn: Tensor) -> Tensor:
    """Poisson counts of these means, of the shape of `drawn`, uniform numbers in [0, 1): the inverse of their sums."""
    mean, drawn = mean.double(), drawn.double()
    chance = (-mean).exp()
    total, count = chance.clone(), torch.zeros_like(mean)
    most = float(mean.max()) if mean.numel() else 0.0
    # Beyond ten deviations and a few there is no chance that 24 bits could draw.
    for number in range(1, int(most + 10 * most**0.5 + 30)):
        count += drawn >= total
        chance = chance * mean / number
        total += chance
    return count.to(torch.float32)

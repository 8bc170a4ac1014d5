"""The registry of networks, and what they share: how a width rounds, and convolutions without bias.

Every registered factory has the signature
`(classes: int, channels: int, size: Size, width: float) -> nn.Module`: `classes` logits come out for images of
`channels` channels and `size` x `size` pixels, or of the height and width that `size` is, with values in [0, 1];
`width` multiplies the numbers of channels (1.0 is the published network). Weights start as PyTorch's own layers start
them: Kaiming-uniform with a = sqrt(5), which is uniform in +-1/sqrt(fan_in); batch norm starts at scale 1 and shift 0.
"""

import math
from collections.abc import Callable

from torch import nn

from harp.errors import HarpError
from harp.registry import Registry

Factory = Callable[..., nn.Module]
Size = int | tuple[int, int]
"""The side of square images, or height and width."""

MODELS: Registry[Factory] = Registry("model", "models")


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def size_of(height: int, width: int) -> Size:
    """The one number that a square's sides are, or both."""
    return height if height == width else (height, width)


def scaled(count: int, width: float) -> int:
    """`count` channels times `width`, rounded half up, at least 1; `HarpError` unless `width` is above 0."""
    if not 0 < width < math.inf:
        raise HarpError(f"width {width}: expected a factor above 0, such as 1.0 for the published network")
    return max(1, math.floor(count * width + 0.5))


def convolution(inward: int, outward: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded so that at stride 1 the image keeps its size (`kernel` is odd).

    [B, inward, H, W] to [B, outward, H / stride, W / stride], rounded up.
    """
    # The batch norm that goes with it subtracts the mean, so a bias would be a parameter without effect.
    return nn.Conv2d(inward, outward, kernel, stride, padding=kernel // 2, bias=False)


def normed(inward: int, outward: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution, its batch norm and a ReLU: the step the networks without shortcuts repeat."""
    return [convolution(inward, outward, 3, stride), nn.BatchNorm2d(outward), nn.ReLU()]

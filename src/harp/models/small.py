"""Networks small enough to train adversarially on two CPU cores."""

from itertools import pairwise

from torch import nn

from harp.errors import HarpError
from harp.models.base import MODELS, Size, normed, scaled, sides

DIGITS = (32, 64, 128)
HIDDEN = 128
# (channels, stride): most weights sit at 8 x 8 and 4 x 4 pixels, where each costs 64 or 16 multiplications
# and not 1,024.
CIFAR = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (96, 2), (96, 1))


@MODELS.register("digits_cnn")
def digits_cnn(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """Three convolutions and two linear layers for small grey images, such as 8 x 8 digits.

    Images [B, channels, size, size] to logits [B, classes]; raises `HarpError` for `size` below 4. `width`
    scales the hidden linear layer too. 159,264 prunable weights at width 1 for 10 classes of 8 x 8 grey
    images.
    """
    high, wide = sides(size)
    if min(high, wide) < 4:
        raise HarpError(f"digits_cnn on images of {high} x {wide} pixels: expected 4 x 4 at least, for two max-pools")
    first, second, third = (scaled(count, width) for count in DIGITS)
    hidden = scaled(HIDDEN, width)
    return nn.Sequential(
        *normed(channels, first),
        *normed(first, second),
        nn.MaxPool2d(2),
        *normed(second, third),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(third * (high // 4) * (wide // 4), hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


@MODELS.register("cifar_cnn")
def cifar_cnn(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """Seven convolutions with batch norm, a global average pool and a linear layer, cheap enough for a CPU.

    Images [B, channels, size, size] of any size to logits [B, classes]. 208,752 prunable weights and
    9,733,056 multiply-accumulates per image at width 1 for 10 classes of 32 x 32 colour images.
    """
    counts = [channels, *(scaled(count, width) for count, _ in CIFAR)]
    steps = zip(pairwise(counts), CIFAR, strict=True)
    layers = [layer for (inward, outward), (_, stride) in steps for layer in normed(inward, outward, stride)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(counts[-1], classes))

"""VGG for CIFAR-sized images: Simonyan and Zisserman (2015), table 1, column D, with batch norm."""

from collections.abc import Iterator

from torch import nn

from harp.errors import HarpError
from harp.models.base import MODELS, Size, normed, scaled, sides

# The published network pools a fifth time; at 32 pixels the fourth pool already leaves the 2 x 2 the
# classifier takes.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = 256


def _features(channels: int, width: float) -> Iterator[nn.Module]:
    for index, stage in enumerate(STAGES):
        if index > 0:
            yield nn.MaxPool2d(2)
        for count in stage:
            outward = scaled(count, width)
            yield from normed(channels, outward)
            channels = outward


@MODELS.register("vgg16_bn")
def vgg16_bn(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """VGG-16 with batch norm: 13 convolutions, then three linear layers over a 2 x 2 average pool.

    Images [B, channels, size, size] to logits [B, classes]; `size` is at least 16. `width` scales the two
    hidden linear layers too. 15,302,848 prunable weights at width 1 for 10 classes of colour images.
    """
    pooled, hidden = 4 * scaled(STAGES[-1][-1], width), scaled(HIDDEN, width)
    return nn.Sequential(
        nn.Sequential(*_features(channels, width)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Sequential(
            nn.Linear(pooled, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        ),
    )


@MODELS.register("vgg16_1fc")
def vgg16_1fc(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """VGG-16 with batch norm and a single linear layer: 13 convolutions, a fifth max-pool, 1 x 1 average, classifier.

    Images [B, channels, size, size] to logits [B, classes]; raises `HarpError` for `size` below 32. 14,715,584 prunable
    weights at width 1 for 10 classes of colour images. The form in which MAD, FlyingBird and TwinRep report VGG-16.
    """
    high, wide = sides(size)
    if min(high, wide) < 32:
        raise HarpError(f"vgg16_1fc on images of {high} x {wide} pixels: expected 32 x 32 at least, for five max-pools")
    return nn.Sequential(
        nn.Sequential(*_features(channels, width), nn.MaxPool2d(2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(scaled(STAGES[-1][-1], width), classes),
    )

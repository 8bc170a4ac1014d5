"""VGG for CIFAR-sized images: Simonyan and Zisserman (2015), table 1, column D, with batch norm."""

from collections.abc import Iterator

from torch import nn

from harp.models.base import MODELS, normed, scaled

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
def vgg16_bn(classes: int, channels: int, size: int, width: float) -> nn.Module:
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

"""Wide ResNets: Zagoruyko and Komodakis (2016), table 1, with pre-activation blocks and without dropout."""

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from harp.models.base import MODELS, Size, convolution, scaled

STEM = 16
STAGES = (16, 32, 64)


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU.

    [B, inward, H, W] to [B, outward, H / stride, W / stride].
    """

    def __init__(self, inward: int, outward: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inward)
        self.conv1 = convolution(inward, outward, 3, stride)
        self.bn2 = nn.BatchNorm2d(outward)
        self.conv2 = convolution(outward, outward)
        self.relu = nn.ReLU()
        self.same = stride == 1 and inward == outward
        self.shortcut = nn.Identity() if self.same else convolution(inward, outward, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        out = self.conv2(self.relu(self.bn2(self.conv1(active))))
        # A 1x1 shortcut reads the activated input, an identity the raw one, as in the authors' code.
        return cast(Tensor, out + self.shortcut(x if self.same else active))


def _blocks(depth: int, widen: int, width: float) -> Iterator[nn.Module]:
    inward = scaled(STEM, width)
    for stage, count in enumerate(STAGES):
        outward = scaled(widen * count, width)
        # Two convolutions in each block of three stages; the other four layers are the stem, shortcuts aside.
        for index in range((depth - 4) // 6):
            yield PreActivationBlock(inward, outward, stride=2 if stage > 0 and index == 0 else 1)
            inward = outward


def _wide_resnet(depth: int, widen: int, classes: int, channels: int, width: float) -> nn.Module:
    last = scaled(widen * STAGES[-1], width)
    return nn.Sequential(
        convolution(channels, scaled(STEM, width)),
        nn.Sequential(*_blocks(depth, widen, width)),
        nn.Sequential(nn.BatchNorm2d(last), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, classes),
    )


@MODELS.register("wide_resnet28_4")
def wide_resnet28_4(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """Wide ResNet of depth 28 and widening factor 4, which `width` multiplies further.

    Images [B, channels, size, size] of any size to logits [B, classes]. 5,841,840 prunable weights at width 1
    for 10 classes of colour images.
    """
    return _wide_resnet(28, 4, classes, channels, width)


@MODELS.register("wide_resnet28_10")
def wide_resnet28_10(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """Wide ResNet of depth 28 and widening factor 10, which `width` multiplies further.

    Images [B, channels, size, size] of any size to logits [B, classes]. 36,461,232 prunable weights at width
    1 for 10 classes of colour images.
    """
    return _wide_resnet(28, 10, classes, channels, width)


@MODELS.register("wide_resnet34_10")
def wide_resnet34_10(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """Wide ResNet of depth 34 and widening factor 10, which `width` multiplies further.

    Images [B, channels, size, size] of any size to logits [B, classes]. 46,138,032 prunable weights at width
    1 for 10 classes of colour images.
    """
    return _wide_resnet(34, 10, classes, channels, width)

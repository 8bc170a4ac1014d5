"""ResNets for CIFAR-sized images: He et al. (2016), table 1, with a 3x3 stem and no max-pool."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from harp.models.base import MODELS, Size, convolution, scaled

PLANES = (64, 128, 256, 512)


def _shortcut(inward: int, outward: int, stride: int) -> nn.Module:
    if stride == 1 and inward == outward:
        return nn.Identity()
    return nn.Sequential(convolution(inward, outward, 1, stride), nn.BatchNorm2d(outward))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: [B, inward, H, W] to [B, planes, H / stride, W / stride]."""

    expansion = 1

    def __init__(self, inward: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = convolution(inward, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = _shortcut(inward, planes, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return cast(Tensor, self.relu(out))


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 around a shortcut.

    [B, inward, H, W] to [B, 4 planes, H / stride, W / stride].
    """

    expansion = 4

    def __init__(self, inward: int, planes: int, stride: int):
        super().__init__()
        outward = self.expansion * planes
        self.conv1 = convolution(inward, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        # The stride sits in the 3x3, as in torchvision; in the paper's 1x1 three quarters of its input would
        # be unread.
        self.conv2 = convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, outward, 1)
        self.bn3 = nn.BatchNorm2d(outward)
        self.shortcut = _shortcut(inward, outward, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out)) + self.shortcut(x)
        return cast(Tensor, self.relu(out))


Block = type[BasicBlock] | type[Bottleneck]


def _blocks(block: Block, depths: Sequence[int], planes: Sequence[int]) -> Iterator[nn.Module]:
    inward = planes[0]
    for stage, (depth, count) in enumerate(zip(depths, planes, strict=True)):
        for index in range(depth):
            yield block(inward, count, stride=2 if stage > 0 and index == 0 else 1)
            inward = block.expansion * count


def _stem(channels: int, first: int) -> list[nn.Module]:
    return [convolution(channels, first), nn.BatchNorm2d(first), nn.ReLU()]


def _photo_stem(channels: int, first: int) -> list[nn.Module]:
    """For photographs: a quarter of the height and width comes out."""
    wide = nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False)
    return [wide, nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]


def _resnet(
    block: Block,
    depths: Sequence[int],
    classes: int,
    channels: int,
    width: float,
    stem: Callable[[int, int], list[nn.Module]] = _stem,
) -> nn.Module:
    planes = [scaled(count, width) for count in PLANES]
    return nn.Sequential(
        nn.Sequential(*stem(channels, planes[0])),
        nn.Sequential(*_blocks(block, depths, planes)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(block.expansion * planes[-1], classes),
    )


@MODELS.register("resnet18")
def resnet18(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """ResNet-18 with a CIFAR stem: 20 convolutions (three of them 1x1 shortcuts) and a linear layer.

    Images [B, channels, size, size] of any size to logits [B, classes]. 11,164,352 prunable weights at width
    1 for 10 classes of colour images.
    """
    return _resnet(BasicBlock, (2, 2, 2, 2), classes, channels, width)


@MODELS.register("resnet34")
def resnet34(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """ResNet-34 with a CIFAR stem: 36 convolutions (three of them 1x1 shortcuts) and a linear layer.

    Images [B, channels, size, size] of any size to logits [B, classes]. 21,265,088 prunable weights at width
    1 for 10 classes of colour images.
    """
    return _resnet(BasicBlock, (3, 4, 6, 3), classes, channels, width)


@MODELS.register("resnet50")
def resnet50(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """ResNet-50 with a CIFAR stem: 53 convolutions (four of them 1x1 shortcuts) and a linear layer.

    Images [B, channels, size, size] of any size to logits [B, classes]. 23,467,712 prunable weights at width
    1 for 10 classes of colour images.
    """
    return _resnet(Bottleneck, (3, 4, 6, 3), classes, channels, width)


@MODELS.register("imagenet_resnet50")
def imagenet_resnet50(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """ResNet-50 for photographs: as `resnet50`, after a 7x7 convolution and a max-pool that each halve the sides.

    Images [B, channels, size, size] of any size to logits [B, classes]. 25,502,912 prunable weights at width
    1 for 1,000 classes of colour images.
    """
    return _resnet(Bottleneck, (3, 4, 6, 3), classes, channels, width, _photo_stem)

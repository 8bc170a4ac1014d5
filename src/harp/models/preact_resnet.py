"""ResNets with pre-activation blocks for CIFAR-sized images: He et al. (2016b), with a 3x3 stem and no max-pool."""

from collections.abc import Iterator

from torch import nn

from harp.models.base import MODELS, Size, convolution, scaled
from harp.models.resnet import PLANES
from harp.models.wide_resnet import PreActivationBlock


def _blocks(planes: list[int]) -> Iterator[nn.Module]:
    inward = planes[0]
    for stage, outward in enumerate(planes):
        for index in range(2):
            yield PreActivationBlock(inward, outward, stride=2 if stage > 0 and index == 0 else 1)
            inward = outward


@MODELS.register("preact_resnet18")
def preact_resnet18(classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """ResNet-18 with norm and ReLU before each convolution: 20 convolutions (three 1x1 shortcuts) and a linear layer.

    Images [B, channels, size, size] of any size to logits [B, classes]. 11,164,352 prunable weights at width
    1 for 10 classes of colour images. The network of FlyingBird and RobustBird, less its normalisation.
    """
    planes = [scaled(count, width) for count in PLANES]
    return nn.Sequential(
        convolution(channels, planes[0]),
        nn.Sequential(*_blocks(planes)),
        # The paper ends its last block so; some ports leave these 1,024 parameters out.
        nn.Sequential(nn.BatchNorm2d(planes[-1]), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(planes[-1], classes),
    )

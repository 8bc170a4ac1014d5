"""Networks with random weights, pruned at random and settled on noise: what runtimes are timed on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harp.bench import Subject
from harp.bench.quantised import CALIBRATION
from harp.models import build
from harp.sparsity import ALLOCATIONS, Budget, Weights, allot, find_sites, top_mask

SMALL = ("vgg16_bn", "resnet18")
# At 224 pixels, for a thousand classes: timm's.
PHOTOS = ("resnet50", "mobilenetv2_100", "deit_tiny_patch16_224")


@dataclass(frozen=True)
class Drawn(Subject):
    """A network with random weights, of which a share is kept, where `Subject` has one of a recipe."""

    net: str = ""
    keep: float = 1.0

    @cached_property
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        if self.net in PHOTOS:
            declare_operators()
            model = build(f"timm:{self.net}", classes=1000, channels=3, size=224)
        else:
            model = build(self.net, classes=10, channels=3, size=32)
        prune(model, self.keep)
        settle(model, noise(self.calm, self.shape, 1))
        laid: nn.Module = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return laid

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (3, 224, 224) if self.net in PHOTOS else (3, 32, 32)

    @property
    def calm(self) -> int:
        """Images that settle batch norms."""
        return 8 if self.net in PHOTOS else 128

    @cached_property
    def calibration(self) -> Tensor:
        """Noise like that which is timed: nobody knows what such a network should see."""
        return noise(min(self.calm, CALIBRATION), self.shape, 2)


def noise(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def prune(model: nn.Module, keep: float) -> None:
    units = Weights(find_sites(model))
    counts = allot(units, Budget(keep, floor=0.0), ALLOCATIONS["erk"](units))
    for site in units.sites:
        site.param.masked_fill_(~top_mask(site.param.abs(), counts[site.name]), 0)


@torch.no_grad()
def settle(model: nn.Module, images: Tensor) -> None:
    """Means and variances of batch norms as they are over the images, and none that makes zeros of what it is given.

    As timm begins a ResNet, the last norm of each block does, and all of the block would be shrunk away.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            module.reset_running_stats()
            module.momentum = None
    model.train()
    model(images)


def declare_operators() -> None:
    """Beside a CPU build of torch, torchvision, which timm asks for, has no compiled operators; declared, they do.

    Nothing calls them. Where they are there nothing is done: a second declaration would end the process.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)


_DECLARED: list[Any] = []  # declarations last as long as these

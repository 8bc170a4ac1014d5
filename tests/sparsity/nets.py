"""Tiny networks, one for each way in which channels are tied."""

from typing import cast

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 1)
        self.inner = nn.Conv2d(3, 4, 1)
        self.outer = nn.Conv2d(4, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.outer(self.inner(x).relu())
        return cast(Tensor, self.head(x.mean((2, 3))))


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1)
        self.second = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.first(x), self.second(x)], 1)
        return cast(Tensor, self.head(self.norm(x).relu().mean((2, 3))))


class Gated(nn.Module):
    """Squeeze and excite: the gate's outputs are tied to the channels they scale."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 1)
        self.squeeze = nn.Linear(4, 3)
        self.excite = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return cast(Tensor, self.head((x * gate[:, :, None, None]).relu().mean((2, 3))))


class Shared(nn.Module):
    """One layer used twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 3)
        self.layer = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.stem(x).relu()).relu()
        return cast(Tensor, self.head(self.layer(x).relu()))


class Scaled(nn.Module):
    """A bare parameter beside the layers, and a layer norm over channels."""

    def __init__(self, normed: bool):
        super().__init__()
        self.stem = nn.Linear(2, 4)
        self.scale = nn.Parameter(torch.full((4,), 1e-6))
        self.norm = nn.LayerNorm(4) if normed else nn.Identity()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.norm(self.scale * self.stem(x).relu())))


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def flat() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


def depthwise(filters: int = 1) -> nn.Module:
    wide = 3 * filters
    layers = [nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, wide, 2, groups=3), nn.ReLU(), nn.Conv2d(wide, 2, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def grouped() -> nn.Module:
    layers = [nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1, groups=2), nn.ReLU(), nn.Conv2d(6, 2, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class GatedUnit(nn.Module):
    """The first half of a layer's outputs times the sigmoid of the second."""

    def __init__(self):
        super().__init__()
        self.both = nn.Linear(2, 6)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, dim=1)
        return cast(Tensor, self.head(value * gate.sigmoid()))


class Mean(nn.Module):
    """A mean over channels, which no weight reads one by one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return cast(Tensor, self.head(x * x.mean(1, keepdim=True)))


class Viewed(nn.Module):
    """A reshape that knows the number of channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.stem(x).relu().reshape(-1, 2, 2).transpose(1, 2).reshape(-1, 4)))


class Subsampled(nn.Module):
    """Channels last, and every other row and column of the picture."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.permute(0, 2, 3, 1)).relu()[:, ::2, ::2]
        return cast(Tensor, self.head(x.mean((1, 2))))


class Aliased(nn.Module):
    """Every layer under two names: an attribute, and an entry of the sequence that is run."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.features = nn.Sequential(self.conv, self.norm, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x).mean((2, 3))))


class TiedAndAliased(nn.Module):
    """Two layers of one weight, one of them under two names."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.c.weight = self.b.weight
        self.alias = self.b

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.c(self.b(self.a(x).relu()).relu()).relu()))


class OneGate(nn.Module):
    """A map of one channel, normalised, multiplies every channel of another branch."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.one = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 1, 1)
        self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return cast(Tensor, self.head((self.body(x).relu() * self.norm(self.one(x)).sigmoid()).mean((2, 3))))


class GlobalGate(nn.Module):
    """One number an image, made of all channels, multiplies them."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.head = nn.Conv2d(2, 4, 1), nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return cast(Tensor, self.head((x * self.one(x.mean((2, 3)))[:, :, None, None].sigmoid()).mean((2, 3))))


class FrozenNorm(nn.Module):
    """A batch norm of buffers alone, with the numbers it begins with."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, saved: bool = True):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = torch.full((channels,), float(name in ("weight", "running_var")))
            self.register_buffer(name, value, persistent=saved)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale.reshape(1, -1, 1, 1) + (self.bias - self.running_mean * scale).reshape(1, -1, 1, 1)


class Blur(nn.Module):
    """A fixed filter for each channel, before every other pixel is left out."""

    filter: Tensor

    def __init__(self, channels: int, count: int | None = None):
        super().__init__()
        self.count = count
        self.register_buffer("filter", torch.full((channels, 1, 2, 2), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.filter, stride=2, groups=self.count or x.shape[1])


def constant(between: nn.Module) -> nn.Module:
    """Something of buffers between two layers of 4 and 3 channels."""
    ends = [nn.ReLU(), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(2, 4, 1), between, *ends, nn.Linear(3, 2))

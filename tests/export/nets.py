"""Small networks of every structure that shrinking knows, as graphs in float64 whose numbers can be drawn anew."""

from dataclasses import replace
from functools import cache

import torch
from torch import nn

from harp.graph import capture

SHAPE = (2, 7, 9)


def images(count=3, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Residual(nn.Module):
    """A stem, a block with an identity, one with a projection; norm before activation, so that norms stay."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.a, self.b = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.c, self.d = nn.Conv2d(6, 4, 3, stride=2, padding=1), nn.Conv2d(4, 8, 1)
        self.side = nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.b(self.a(self.norm(x).relu()).relu())
        x = (self.d(self.c(x).relu()) + self.side(x)).relu()
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Side by side, of different kernels, over a pool whose zeros count; read through a flattening."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 5, 3, padding=2)
        self.one, self.three = nn.Conv2d(5, 3, 1), nn.Conv2d(5, 4, 3, padding=1)
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.last = nn.Conv2d(12, 4, 3, padding=1, stride=2)
        self.head = nn.Linear(120, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = torch.cat([self.one(x).relu(), self.pool(x), self.three(x)], 1)
        return self.head(self.last(x).relu().flatten(1))


class Gated(nn.Module):
    """Depthwise, squeeze and excite, a scale for each channel."""

    def __init__(self):
        super().__init__()
        self.widen = nn.Conv2d(2, 6, 1)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, stride=2, groups=6)
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.narrow = nn.Conv2d(6, 5, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(5, 1, 1))
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        x = nn.functional.hardswish(self.depth(nn.functional.silu(self.widen(x))))
        gate = self.excite(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        return self.head((self.narrow(x * gate) * self.scale).relu().amax((2, 3)))


class Tokens(nn.Module):
    """Patches, a perceptron over their channels beside an identity, layer norm, which nothing passes."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(2, 6, 3, stride=2)
        self.up, self.down = nn.Linear(6, 9), nn.Linear(9, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = self.norm(x + self.down(nn.functional.gelu(self.up(x))))
        return self.head(x.mean(1))


def plain(activation, padding, stride, pool):
    layers = [nn.Conv2d(2, 6, 3, stride, padding), activation, pool]
    layers += [nn.Conv2d(6, 7, 3, padding=padding or 1), activation, nn.Conv2d(7, 5, 2), activation]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(8), activation, nn.Linear(8, 4))


NETS = {
    "relu": lambda: plain(nn.ReLU(), 1, 1, nn.MaxPool2d(2)),
    "silu": lambda: plain(nn.SiLU(), 2, 2, nn.MaxPool2d(3, 1, 1)),
    "gelu": lambda: plain(nn.GELU(), 0, 1, nn.AvgPool2d(2, ceil_mode=True)),
    "sigmoid": lambda: plain(nn.Sigmoid(), 1, 1, nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "prelu": lambda: plain(nn.PReLU(), 1, 2, nn.AvgPool2d(3, 1, 1)),
    "residual": Residual,
    "branches": Branches,
    "gated": Gated,
    "tokens": Tokens,
}


@cache
def net(name):
    torch.manual_seed(0)
    model = NETS[name]().double()
    model(images())  # sizes of lazy layers, statistics of norms
    return capture(model, images())


def drawn(name, seed, density, filters, biases=1.0):
    """The network with weights of that density, of which only a share of the filters has any; and random biases."""
    generator = torch.Generator().manual_seed(seed)

    def chance(shape, share):
        return torch.rand(shape, generator=generator) < share

    tensors = {}
    for key, old in net(name).tensors.items():
        new = torch.randn(old.shape, generator=generator, dtype=torch.float64)
        if old.ndim > 1 and old.numel() > len(old):
            new *= chance(old.shape, density) & chance((len(old), *[1] * (old.ndim - 1)), filters)
        elif key.endswith("bias"):
            new *= biases * chance(old.shape, 0.8)
        tensors[key] = new.abs() if "var" in key else new
    return replace(net(name), tensors=tensors)

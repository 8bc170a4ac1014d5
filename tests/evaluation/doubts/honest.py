"""Forty honest networks for the digits: architectures, activations, normalisations, poolings and ways to train."""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

import harp
from harp.objectives import Objective
from tests.evaluation.defences import PGD_AT, THREAT, dense, trained

NATURAL = harp.Natural()

Body = Callable[[], nn.Module]


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.layers(x))


class Attention(nn.Module):
    """Self-attention over the rows of the image, then their mean."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(0.1 * torch.randn(8, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.1, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.block(self.embed(x.squeeze(1)) + self.place).mean(1)))


class Recurrent(nn.Module):
    def __init__(self, width: int = 48):
        super().__init__()
        self.cell, self.head = nn.GRU(8, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.cell(x.squeeze(1))[0][:, -1]))


class Gated(nn.Module):
    """Channels scaled by what all of the image says of them (squeeze and excitation)."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None])


class Normalised(nn.Module):
    """A mean and a deviation in front of a network."""

    mean: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model((x - self.mean) / 0.35))


class Centred(nn.Module):
    """Each image less its own mean, over its own deviation."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 0.1)


class Cosine(nn.Module):
    """Ten times the cosines between features and class vectors."""

    def __init__(self, body: nn.Module, width: int):
        super().__init__()
        self.body, self.classes = body, nn.Parameter(torch.randn(10, width))

    def forward(self, x: Tensor) -> Tensor:
        there = nn.functional.normalize(self.body(x), dim=1)
        return 10 * there @ nn.functional.normalize(self.classes, dim=1).T


class Mean(nn.Module):
    """The mean of some networks' log-probabilities."""

    def __init__(self, *models: nn.Module):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([model(x).log_softmax(1) for model in self.models]).mean(0)


class Halves(nn.Module):
    """The network computed in bfloat16, logits in float32."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x.bfloat16()).float())


class Counting(nn.Module):
    """Counts its queries and remembers the last, to no effect on what it answers."""

    seen: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.queries = model, 0
        self.last: Tensor | None = None
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.queries, self.last = self.queries + 1, x.detach()
        self.seen += len(x)
        return cast(Tensor, self.model(x))


class Cached(nn.Module):
    """Keeps a constant per batch size, as position tables are kept."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.tables: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if len(x) not in self.tables:
            self.tables[len(x)] = torch.full((len(x), 1), 0.5)
        return cast(Tensor, self.model(x) + self.tables[len(x)])


class Smoothed(Objective):
    """Cross-entropy with labels smoothed by a tenth, on clean images."""

    def __init__(self, by: float):
        self.by = by

    def __call__(self, model, x, y, noise):
        yield lambda: nn.functional.cross_entropy(model(x), y, label_smoothing=self.by)


def perceptron(*widths: int, rule: type[nn.Module] = nn.ReLU, norm: type[nn.Module] | None = None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip((64, *widths), widths, strict=False):
        layers += [nn.Linear(before, after), *([norm(after)] if norm else []), rule()]
    return nn.Sequential(*layers, nn.Linear((64, *widths)[-1], 10))


def pooled(norm: Callable[[int], nn.Module], rule=nn.ReLU, pool=nn.AvgPool2d, end=nn.AdaptiveAvgPool2d) -> nn.Module:
    first = nn.Conv2d(1, 8, 3, padding=1), norm(8), rule(), pool(2)
    second = nn.Conv2d(8, 16, 3, padding=1), norm(16), rule(), end(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64, 10))


def residual() -> nn.Module:
    block = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    first = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
    return nn.Sequential(*first, Residual(*block), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))


def depthwise() -> nn.Module:
    thin = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.Hardswish(), nn.Conv2d(16, 16, 1)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU6(), *thin, Gated(16)),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)),
    )


def striding() -> nn.Module:
    layers = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(96, 10))


def tokens() -> nn.Module:
    """Patches of 2 x 2 as tokens, mixed by linear layers behind layer norms."""
    mix = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
    return nn.Sequential(nn.Conv2d(1, 16, 2, stride=2), nn.Flatten(2), Residual(mix), nn.Flatten(), nn.Linear(256, 10))


class Kind(NamedTuple):
    """A network to be trained, by what and for how many epochs; `after` is what is put around it then."""

    body: Body
    objective: Objective = NATURAL
    epochs: int = 6
    after: Callable[[nn.Module], nn.Module] = lambda model: model


BN, GN = nn.BatchNorm2d, lambda width: nn.GroupNorm(2, width)
IN = lambda width: nn.InstanceNorm2d(width, affine=True)  # noqa: E731
NONE = lambda width: nn.Identity()  # noqa: E731
KINDS = {
    "linear": Kind(perceptron),
    "linear, robust": Kind(perceptron, PGD_AT),
    "narrow": Kind(lambda: perceptron(12), epochs=10),
    "narrow, robust": Kind(lambda: perceptron(16), PGD_AT, 10),
    "wide": Kind(lambda: perceptron(256), PGD_AT),
    "deep": Kind(lambda: perceptron(48, 48, 48, 48), epochs=8),
    "tanh": Kind(lambda: perceptron(64, rule=nn.Tanh)),
    "sigmoid": Kind(lambda: perceptron(64, rule=nn.Sigmoid), epochs=12),
    "gelu, robust": Kind(lambda: perceptron(64, 64, rule=nn.GELU), PGD_AT),
    "silu": Kind(lambda: perceptron(64, 64, rule=nn.SiLU)),
    "leaky": Kind(lambda: perceptron(64, 64, rule=nn.LeakyReLU)),
    "elu, robust": Kind(lambda: perceptron(64, rule=nn.ELU), PGD_AT),
    "softplus": Kind(lambda: perceptron(64, rule=nn.Softplus)),
    "layer norm": Kind(lambda: perceptron(64, 64, norm=nn.LayerNorm)),
    "batch norm": Kind(lambda: perceptron(64, 64, norm=nn.BatchNorm1d), PGD_AT),
    "dropout": Kind(lambda: nn.Sequential(nn.Dropout(0.2), perceptron(64))),
    "average pools": Kind(lambda: pooled(BN)),
    "average pools, robust": Kind(lambda: pooled(BN), PGD_AT),
    "maximum pools": Kind(lambda: pooled(BN, pool=nn.MaxPool2d, end=nn.AdaptiveMaxPool2d)),
    "no norm": Kind(lambda: pooled(NONE), epochs=10),
    "group norm": Kind(lambda: pooled(GN)),
    "group norm, robust": Kind(lambda: pooled(GN), PGD_AT, 8),
    "instance norm": Kind(lambda: pooled(IN)),
    "mish": Kind(lambda: pooled(BN, rule=nn.Mish)),
    "residual": Kind(residual),
    "residual, robust": Kind(residual, PGD_AT),
    "depthwise": Kind(depthwise),
    "strides, robust": Kind(striding, PGD_AT, 8),
    "tokens": Kind(tokens, epochs=8),
    "attention": Kind(Attention, epochs=12),
    "recurrent": Kind(Recurrent, epochs=12),
    "cosine": Kind(lambda: Cosine(perceptron(64)[:-1], 64), epochs=8),
    "TRADES": Kind(lambda: dense(), harp.TRADES(harp.PGD(steps=2, step=0.6), THREAT)),
    "smoothed labels": Kind(dense, Smoothed(0.1)),
    "normalised": Kind(lambda: Normalised(residual()), PGD_AT),
    "contrast": Kind(lambda: nn.Sequential(Centred(), perceptron(64))),
    "hardly trained": Kind(lambda: perceptron(16, 16), epochs=1),
    "bfloat16 inside": Kind(residual, after=Halves),
    "log-probabilities": Kind(dense, PGD_AT, after=lambda model: nn.Sequential(model, nn.LogSoftmax(1))),
    "counting": Kind(dense, PGD_AT, after=Counting),
    "cached": Kind(dense, after=Cached),
}


def make(kind: Kind, seed: int) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return kind.after(trained(kind.body(), kind.objective, kind.epochs, harp.Pruner(), seed)).eval()

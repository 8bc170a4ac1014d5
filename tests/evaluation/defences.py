"""Six defences that break attacks and protect nothing, and honest networks for the digits to put them around."""

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

import harp
from harp.data import load
from harp.objectives import Objective

THREAT = harp.Threat(eps=0.1)
PGD_AT = harp.PGDAT(harp.PGD(steps=2, step=0.6), THREAT)


class Winners(nn.Module):
    """Of each image's activations the largest fifth, all others 0 (k-winners-take-all; Xiao et al., ICLR 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 5)).values[:, -1:]
        return torch.where(flat >= least, flat, 0).view_as(x)


class Rounded(nn.Module):
    """The network behind eight grey levels: the gradient of rounding is 0."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model((x * 8).round() / 8))


class Probable(nn.Module):
    """Probabilities in place of logits."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x).softmax(1))


class Dropping(nn.Module):
    """The network behind a dropout that eval mode does not stop."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(nn.functional.dropout(x, 0.1, training=True)))


class LookedUp(nn.Module):
    """The row of a table that the network's answer points to: no gradient leads back from it."""

    table: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.register_buffer("table", 5 * torch.eye(10) - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.table[self.model(x).argmax(1)]


class Loud(nn.Module):
    """Logits times `by`: in float32 their softmax is 0 and 1."""

    def __init__(self, model: nn.Module, by: float = 1e4):
        super().__init__()
        self.model, self.by = model, by

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.by * self.model(x))


def dense(width: int = 64) -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)),
    )


def convolutional(rule: type[nn.Module] = nn.ReLU, width: int = 8) -> nn.Module:
    first = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), rule(), nn.MaxPool2d(2)
    second = nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), rule(), nn.MaxPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(8 * width, 10))


def trained(model: nn.Module, objective: Objective, epochs: int, pruner: harp.Pruner, seed: int = 0) -> nn.Module:
    """`model` trained on the digits under `pruner`, in eval mode."""
    data = harp.Resident(load("digits").train, 64, seed, device="cpu")
    until = epochs * data.steps_per_epoch
    optimizer = harp.sgd(model, pruner, lr=0.1)
    harp.fit(model, data, objective=objective, optimizer=optimizer, pruner=pruner, until=until, seed=seed)
    return model.eval()


def pruned(seed: int) -> nn.Module:
    """To 845 of 84,480 weights by HARP."""
    model = dense(256)
    sites = harp.find_sites(model)
    trained(model, PGD_AT, 3, harp.Pruner(), seed)
    search = harp.Harp(sites, harp.Budget(keep=0.01), options=harp.HarpOptions(gamma=0.05), course=harp.Course(21))
    trained(model, PGD_AT, 6, search, seed)
    return trained(model, PGD_AT, 6, harp.Masked(sites, search.settle()), seed)


MAKERS = {
    "dense": lambda seed: trained(dense(), PGD_AT, 8, harp.Pruner(), seed),
    "dense-natural": lambda seed: trained(dense(), harp.Natural(), 8, harp.Pruner(), seed),
    "convolutional": lambda seed: trained(convolutional(), PGD_AT, 6, harp.Pruner(), seed),
    "convolutional-natural": lambda seed: trained(convolutional(), harp.Natural(), 6, harp.Pruner(), seed),
    "pruned": pruned,
    "winners": lambda seed: trained(convolutional(Winners), harp.Natural(), 6, harp.Pruner(), seed),
}


@cache
def network(name: str, seed: int = 0) -> nn.Module:
    """One of `MAKERS`, trained once a session and in eval mode; not to be changed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return MAKERS[name](seed)


def digits(n: int = 128) -> tuple[Tensor, Tensor]:
    """The first `n` test images and labels."""
    return next(iter(harp.Resident(load("digits").test, n, 0, device="cpu").once()))

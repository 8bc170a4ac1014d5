"""Models whose adversarial answers are known in closed form."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from harp.randomness import generator
from harp.threats import Threat

WEIGHTS = (1.0, -2.0, 0.5, -0.25)


def linear(weights=WEIGHTS, bias=0.0, scale=1.0) -> nn.Sequential:
    """Logits (-m / 2, m / 2) of images [n, 1, 2, 2], where m = scale * (weights . x + bias): m is class 1's margin."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    half = scale * torch.tensor(weights) / 2
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.stack([-half, half]))
        model.get_parameter("1.bias").copy_(torch.tensor([-scale * bias / 2, scale * bias / 2]))
    return model


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The right logit minus the wrong one, shape [n]."""
    with torch.no_grad():
        logits = model(x)
    return cast(Tensor, (2 * y - 1) * (logits[:, 1] - logits[:, 0]))


def images(n: int, low: float = 0.3, high: float = 0.7) -> Tensor:
    """Images [n, 1, 2, 2] away from the box's edge, and the same ones at every call."""
    return low + (high - low) * torch.rand(n, 1, 2, 2, generator=generator(0, "images"))


def labels(n: int) -> Tensor:
    """Alternating 0 and 1."""
    return torch.arange(n) % 2


def affine(classes: int, shape: tuple[int, ...], seed: int) -> nn.Sequential:
    """Logits W x + b of images [n, *shape], in float64: W and b standard normal."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes)).double()
    numbers = generator(seed, "affine")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=numbers)
    return model


def distances(model: nn.Module, x: Tensor, y: Tensor, norm: float) -> Tensor:
    """How far each image is from each class's boundary with class `y`, [n, classes]; infinite for `y` itself.

    |margin| over the dual norm of the difference of weights: exact where the box does not bind.
    """
    weight, dual = model.get_parameter("1.weight").detach(), {math.inf: 1, 2: 2, 1: math.inf}[norm]
    with torch.no_grad():
        logits = model(x)
    margins = logits.gather(1, y[:, None]) - logits
    lengths = torch.linalg.vector_norm(weight[y][:, None] - weight[None], ord=dual, dim=2)
    return cast(Tensor, (margins.abs() / lengths).scatter(1, y[:, None], torch.inf))


def parallel(classes, shape, norm):
    """Only class 0 depends on the image, so every loss rises straight towards the one nearest boundary.

    For norm 1 all weights are of one size: of others its steps need not reach the largest alone, since of two pixels
    changed they move two thirds, rounded up.
    """
    model = affine(classes, shape, seed=classes)
    with torch.no_grad():
        weight, bias = model.get_parameter("1.weight"), model.get_parameter("1.bias")
        weight[1:] = 0
        weight[0] = weight[0].sign() if norm == 1 else weight[0]
        bias[0] += bias.max() + 4 * weight[0].norm()
    return model


def open_box(norm, eps):
    """A threat whose box is too far away to bind."""
    return Threat(norm, eps, -100.0, 100.0)

"""A model whose adversarial answers are known in closed form."""

import torch
from torch import Tensor, nn

from harp.randomness import generator

WEIGHTS = (1.0, -2.0, 0.5, -0.25)


def linear(weights=WEIGHTS, bias=0.0, scale=1.0) -> nn.Module:
    """Logits (-m / 2, m / 2) of images [n, 1, 2, 2], where m = scale * (weights . x + bias): m is class 1's margin."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    half = scale * torch.tensor(weights) / 2
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([-half, half]))
        model[1].bias.copy_(torch.tensor([-scale * bias / 2, scale * bias / 2]))
    return model


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The right logit minus the wrong one, shape [n]."""
    with torch.no_grad():
        logits = model(x)
    return (2 * y - 1) * (logits[:, 1] - logits[:, 0])


def images(n: int, low: float = 0.3, high: float = 0.7) -> Tensor:
    """Images [n, 1, 2, 2] away from the box's edge, and the same ones at every call."""
    return low + (high - low) * torch.rand(n, 1, 2, 2, generator=generator(0, "images"))


def labels(n: int) -> Tensor:
    """Alternating 0 and 1."""
    return torch.arange(n) % 2

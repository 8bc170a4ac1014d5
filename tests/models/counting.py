"""Networks without memory behind their weights, and the numbers counted on them."""

import torch
from torch import nn

from harp.models import MODELS


def hollow(name: str, classes: int = 10, channels: int = 3, size: int = 32, width: float = 1.0) -> nn.Module:
    with torch.device("meta"):
        return MODELS[name](classes=classes, channels=channels, size=size, width=width)


def sizes(model: nn.Module) -> list[int]:
    """Prunable weights per layer: biases and batch norms, the parameters of one axis, do not count."""
    return [parameter.numel() for parameter in model.parameters() if parameter.dim() > 1]


def total(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, images: torch.Tensor) -> int:
    """Multiply-accumulates of the forward pass of one image, in convolutions and linear layers."""
    counts = []

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        counts.append(layer.get_parameter("weight").numel() * out[0, 0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model(images)
    return sum(counts)

"""A network: two linear layers."""

from torch import nn


def two_layers(classes: int, channels: int, size: int | tuple[int, int]) -> nn.Module:
    """Two linear layers with 32 channels between them."""
    high, wide = (size, size) if isinstance(size, int) else size
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * high * wide, 32), nn.ReLU(), nn.Linear(32, classes))

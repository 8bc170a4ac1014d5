"""Networks that several benchmarks measure."""

import torch
from torch import nn

from harp.models import build


def shaken(name: str) -> nn.Module:
    """The network with norms that are no identity, so that a wrong index or factor would show."""
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.5, 0.5)
    return model

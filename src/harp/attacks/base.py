"""What every attack is."""

from typing import Protocol

import torch
from torch import Tensor, nn

from harp.threats import Threat


class Attack(Protocol):
    """A value-like object: `attack(model, x, y, threat, noise)` gives adversarial images of the shape of `x`.

    `x` float [n, c, h, w] in the threat's box, `y` int64 [n]. Every random number comes from `noise`, a generator on
    the device of `x`. The model is attacked in eval mode and left in the modes it came in; no gradient is left on
    its parameters.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: torch.Generator) -> Tensor: ...

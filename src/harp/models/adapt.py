"""Normalisation inside the network: for everyone else images stay in [0, 1] and eps in units of pixels."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harp.errors import HarpError


class Normalised(nn.Module):
    """`model((images - mean) / std)`: takes images [B, c, H, W] in [0, 1] to the logits of `model`.

    `mean` and `std` hold one value per channel and become float32 buffers [c, 1, 1], saved with the state.
    Raises `HarpError` where their lengths differ or are zero, where a value is not finite, and where a `std`
    is not above zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        if len(mean) != len(std) or len(mean) == 0:
            raise HarpError(f"mean has {len(mean)} values and std {len(std)}; expected one of each per channel")
        if not all(map(math.isfinite, mean)):
            raise HarpError(f"mean {list(mean)}: expected finite values")
        if not all(0 < value < math.inf for value in std):
            raise HarpError(f"std {list(std)}: expected every value above 0 and finite; 1.0 leaves a channel as it is")
        self.model = model
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.model((images - self.mean) / self.std))

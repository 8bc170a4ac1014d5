"""What stands between images in [0, 1] and plain logits: a wrapped output opened, normalisation inside the network."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from harp.errors import HarpError


def logits_of(output: object) -> Tensor:
    """The logits in what a network returned: the tensor itself, `.logits`, `["logits"]`, or a tuple's first entry.

    Raises `HarpError` where none of these is a tensor.
    """
    found = output
    if not isinstance(output, Tensor):
        if hasattr(output, "logits"):
            found = output.logits
        elif isinstance(output, Mapping):
            found = output.get("logits")
        elif isinstance(output, tuple | list) and output:
            found = output[0]
    if isinstance(found, Tensor):
        return found
    raise HarpError(
        f"the network returns an object of type {type(output).__name__} without logits; expected a tensor, an object "
        'with .logits, a mapping with "logits", or a tuple that begins with them'
    )


class Logits(nn.Module):
    """The logits of `model` as one tensor, whatever it wraps them in (`logits_of`).

    The wrapped network is `.model`, and every name in the state begins with `model.`; without that prefix the names
    are those of the network itself, so an exported file goes back into it by stripping six letters (and, under
    `Normalised`, the two buffers `mean` and `std`). Adapters do not nest: there is one prefix, not two. Where a
    network has several heads its own `.logits` counts (in LeViT their mean).
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.model(images))


class Normalised(Logits):
    """`model((images - mean) / std)`: takes images [B, c, H, W] in [0, 1] to the logits of `model`.

    `mean` and `std` hold one value per channel and become float32 buffers [c, 1, 1], saved with the state. For
    everyone else images stay in [0, 1] and eps in units of pixels. A wrapped output is opened as in `Logits`; a
    `Logits` given as `model` is replaced by what it wraps. Raises `HarpError` where the lengths differ or are zero,
    where a value is not finite, and where a `std` is not above zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        if len(mean) != len(std) or len(mean) == 0:
            raise HarpError(f"mean has {len(mean)} values and std {len(std)}; expected one of each per channel")
        if not all(map(math.isfinite, mean)):
            raise HarpError(f"mean {list(mean)}: expected finite values")
        if not all(0 < value < math.inf for value in std):
            raise HarpError(f"std {list(std)}: expected every value above 0 and finite; 1.0 leaves a channel as it is")
        super().__init__(model.model if type(model) is Logits else model)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images - self.mean) / self.std)


class Function(nn.Module):
    """Any callable from images to logits as a network, without parameters of its own; wrapped outputs are opened."""

    def __init__(self, function: Callable[[Tensor], object]):
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.function(images))

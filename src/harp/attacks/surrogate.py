"""A faster copy of a network to search with, while the network itself judges what is found."""

import copy

import torch
from torch import Tensor, nn

from harp.modes import evaluating

# Folding batch norm moves float32 logits by some 1e-6 of their size; a copy further away is another network.
CLOSE = 1e-4


class Surrogate(nn.Module):
    """The logits of a copy of `original` that computes faster: [n, classes] for images [n, c, h, w], eval mode only.

    The copy lies channels-last in memory, and where the network can be traced each batch norm is folded into the
    convolution before it; `bf16` runs it under bfloat16 autocast besides. Attacks search with it, and ask `judge` for
    every verdict. Where its logits on `example` are not those of `original` to 1e-4 of their size (bfloat16 aside), it
    is a plain copy.
    """

    def __init__(self, original: nn.Module, example: Tensor, bf16: bool = False):
        super().__init__()
        # Not registered as a submodule: it keeps its own mode, place and gradients.
        self.__dict__["original"] = original
        self.bf16 = bf16
        with evaluating(original), torch.no_grad():
            plain = copy.deepcopy(original).requires_grad_(False)
            quick = _folded(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.copy = quick if _agree(quick, original, example) else plain

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.copy(x.contiguous(memory_format=torch.channels_last))
        return logits.float() if self.bf16 else logits


def judge(model: nn.Module) -> nn.Module:
    """The network whose answer counts: `model`, or the original of a `Surrogate`."""
    original: nn.Module = model.__dict__["original"] if isinstance(model, Surrogate) else model
    return original


def _folded(model: nn.Module) -> nn.Module:
    # Imported late: it compiles some TorchScript, half a second that only a surrogate needs.
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(model)
    except Exception:  # whatever the tracer meets in a foreign network: then nothing is folded
        return model


def _agree(first: nn.Module, second: nn.Module, example: Tensor) -> bool:
    try:
        here, there = first(example.contiguous(memory_format=torch.channels_last)), second(example)
    except (RuntimeError, TypeError, ValueError):
        return False
    return bool((here - there).abs().max() <= CLOSE * there.abs().max())

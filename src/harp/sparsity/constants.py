"""Buffers that hold something for each channel: frozen norms, filters that blur."""

from collections.abc import Collection, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def channel_buffers(model: nn.Module) -> dict[str, int]:
    """The buffers that may hold a number or a filter for each channel, and along which axis: the first longer than 1.

    Those of batch norms are known as such; one that is no part of the `state_dict` is left out, because a smaller file
    could not bring it along.
    """
    norms = {id(b) for module in model.modules() if isinstance(module, _NormBase) for b in module.buffers()}
    saved, found = model.state_dict(keep_vars=True), {}
    for name, buffer in model.named_buffers():
        longer = [axis for axis, length in enumerate(buffer.shape) if length > 1]
        if longer and name in saved and buffer.is_floating_point() and id(buffer) not in norms:
            found[name] = longer[0]
    return found


def as_parameters(model: nn.Module, buffers: Mapping[str, int]) -> nn.Module:
    """`model` with these buffers as parameters, which a tracer of gradients sees."""
    for name in buffers:
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        module.register_parameter(own, nn.Parameter(module._buffers.pop(own)))  # type: ignore[arg-type]
    return model


@torch.no_grad()
def stirred(model: nn.Module, names: Collection[str], generator: torch.Generator) -> nn.Module:
    """`model` with other numbers of the same sign in these buffers: alike for all channels they would prove nothing."""
    for name, buffer in model.named_buffers():
        if name in names:
            first, second = (torch.rand(buffer.shape, generator=generator, dtype=torch.float64) for _ in range(2))
            buffer.mul_(0.5 + first).add_(0.1 * second)
    return model

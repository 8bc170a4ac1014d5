"""The channels of a network that can be removed: found by tracing, believed after verification."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from harp.ambient import precise
from harp.errors import HarpError
from harp.randomness import generator
from harp.sparsity.grouping import group
from harp.sparsity.groups import Channels
from harp.sparsity.removal import copied
from harp.sparsity.sites import find_sites
from harp.sparsity.tracing import shapes_of, trace
from harp.sparsity.verifying import Verifier, excited


@precise()
def find_channels(model: nn.Module, example: Tensor) -> Channels:
    """The groups of channels that `remove` may shorten with equal logits, and why the other channels stay.

    `example` is a batch [B, ...] that `model` takes to a tensor of logits; only its shape matters. Every group is
    verified: on a copy in float64 with random weights, networks in which its channels are silenced and removed give
    logits that differ by less than 1e-6 of their size, in eval mode, in train mode (unless that draws random numbers)
    and together with all other groups. Inputs and logits are in no group. `model` stays as it is. Raises `HarpError`
    where Torch-Pruning is missing, a weight is parametrised, or the network cannot be traced or verified.
    """
    find_sites(model)  # refuses parametrised weights, which the tracer would take for activations
    for path, module in model.named_modules():
        if is_parametrized(module):
            raise HarpError(f"{path or 'the network'} is parametrised; fold it first (torch.nn.utils.parametrize)")
    draws = generator(0, "channels")
    lively = excited(model, draws)
    verifier = Verifier(lively, example, draws)
    with torch.enable_grad():
        ties = trace(copied(lively), verifier.images)
    shapes = shapes_of(lively)
    candidates = group(ties, shapes)
    groups, reasons = verifier.sound(candidates.groups)
    order = {name: number for number, name in enumerate(shapes)}
    fixed = sorted({**candidates.fixed, **reasons}.items(), key=lambda item: order[item[0].partition("#")[0]])
    return Channels(tuple(groups), dict(fixed))

"""The channels of a network that can be removed: found by tracing, believed after verification."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from harp.ambient import precise
from harp.copies import copied
from harp.errors import HarpError
from harp.randomness import generator
from harp.sparsity.constants import as_parameters, channel_buffers, stirred
from harp.sparsity.grouping import group
from harp.sparsity.groups import Channels
from harp.sparsity.silencing import Verifier, excited
from harp.sparsity.sites import check_weights
from harp.sparsity.tracing import Ties, shapes_of, trace
from harp.wrappers import unwrapped


@precise()
def find_channels(model: nn.Module, example: Tensor) -> Channels:
    """The groups of channels that `remove` may shorten with equal logits, and why the other channels stay.

    `example` is a batch [B, ...] that `model` takes to a tensor of logits; only its shape matters. Every group is
    verified: on a copy in float64 with random weights, networks in which its channels are silenced and removed give
    logits that differ by less than 1e-6 of their size, in eval mode, in train mode (unless that draws random numbers)
    and together with all other groups. Inputs and logits are in no group. `model` stays as it is. Raises `HarpError`
    where Torch-Pruning is missing, a weight is parametrised, or the network cannot be traced or verified.
    """
    model = unwrapped(model)
    check_weights(model)  # the tracer would take parametrised ones for activations
    for path, module in model.named_modules():
        if is_parametrized(module):
            raise HarpError(f"{path or 'the network'} is parametrised; prune harp.plain(model), a copy that is not")
    draws = generator(0, "channels")
    lively = excited(model, draws)
    verifier = Verifier(lively, example, draws)
    with torch.enable_grad():
        ties = trace(copied(lively), verifier.images)
    found, failed = _verified(verifier, ties)
    return _seen_again(found, lively, verifier.images, draws) if failed else found


def _verified(verifier: Verifier, ties: Ties) -> tuple[Channels, bool]:
    """What the ties suggest and the verifier believes, and whether there was anything it did not believe."""
    shapes = shapes_of(verifier.model)
    candidates = group(ties, shapes)
    groups, reasons = verifier.sound(candidates.groups)
    order = {name: number for number, name in enumerate(shapes)}
    fixed = sorted({**candidates.fixed, **reasons}.items(), key=lambda item: order[item[0].partition("#")[0]])
    return Channels(tuple(groups), dict(fixed)), bool(reasons)


def _seen_again(found: Channels, lively: nn.Module, images: Tensor, draws: torch.Generator) -> Channels:
    """What can go where buffers are taken to hold something for each channel, if that is more."""
    buffers = channel_buffers(lively)
    if not buffers:
        return found
    try:
        with torch.enable_grad():
            ties = trace(as_parameters(copied(lively), buffers), images, buffers)
        other = stirred(copied(lively), {name for name, _, _ in ties.places}, draws)
        second, _ = _verified(Verifier(other, images, draws), ties)
    except HarpError:
        return found  # a buffer that is no constant
    return max(found, second, key=lambda channels: sum(group.size for group in channels.groups))

"""A look at a batch's loss before its step, of which nothing is left behind."""

import torch
from torch import Tensor, nn

from harp.models import placed
from harp.objectives import Closure


def trial(model: nn.Module, evaluate: Closure) -> Closure:
    """`evaluate` with running statistics and torch's global generator as they were, so that it can be asked again.

    The loss may be differentiated at any time after: its graph holds copies of the buffers, not the buffers.
    """

    def look() -> Tensor:
        device = placed(model)
        held = [(module, dict(module._buffers)) for module in model.modules()]
        copies = {id(buffer): buffer.clone() for _, own in held for buffer in own.values() if buffer is not None}
        try:
            for module, own in held:
                module._buffers.update({name: copies.get(id(buffer)) for name, buffer in own.items()})
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                return evaluate()
        finally:
            for module, own in held:
                module._buffers.update(own)

    return look

"""The network inside what PyTorch wraps around one: to run it on several devices, or compiled."""

from torch import nn

# A compiled network is told by the name of its part: asking for its class would load the compiler, which takes seconds.
_COMPILED = "_orig_mod"


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without `DataParallel`, `DistributedDataParallel` and `torch.compile` around it.

    Its parameters are those of the wrapped one, under the names they have without the wrapper. What is inside of a
    network, such as a wrapped body under a layer of normalisation, stays as it is.
    """
    while (inner := _inside(model)) is not None:
        model = inner
    return model


def alone(model: nn.Module) -> nn.Module:
    """The network without `DistributedDataParallel`, which wants a backward pass after each forward."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        found: object = model.module
    else:
        found = getattr(model, _COMPILED, None)
    return found if isinstance(found, nn.Module) else None

"""Eval mode or frozen parameters for a while, without disturbing what was so before."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from harp.errors import HarpError


def set_mode(model: nn.Module, training: bool) -> None:
    """Train or eval mode for `model`; raises `HarpError` for one that has only the mode it was exported in."""
    try:
        if training:
            model.train()
        else:
            model.eval()
    except NotImplementedError:  # what `torch.export` makes raises it
        raise HarpError(
            f"{type(model).__name__} was exported in one mode for good, so it can be neither trained nor put into eval "
            "mode; expected the module it was exported from (or, to measure it as it is, a function that calls it)"
        ) from None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, and in the mode it had before afterwards, module by module.

    Raises `HarpError` as `set_mode` does.
    """
    before = [(module, module.training) for module in model.modules()]
    set_mode(model, training=False)
    try:
        yield
    finally:
        # By its own method first: some modules drop in train() what they cached of their weights (LeViT's biases).
        model.train()
        for module, training in before:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter takes part in autograd inside; each does again afterwards that did before."""
    before = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in before:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in before:
            parameter.requires_grad_(True)

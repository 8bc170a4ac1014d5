"""Eval mode for a while, without disturbing what was frozen."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, and in the mode it had before afterwards, module by module."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # By its own method first: some modules drop in train() what they cached of their weights (LeViT's biases).
        model.train()
        for module, training in before:
            module.training = training
